//! Who may hold together and who may not.

use pawl_lock::{Key, backend::AcquireRequest, lease::Mode};
use pawl_sidecar::backend::Scope;

use crate::conformance::Bed;

/// One holds, the others do not, on the same sidecar and on another.
pub async fn exclusive_holds_exclude_each_other(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let first = bed.attempt(&key, &a.profile());
    let token = a.take(&first).await.token;
    a.refused(&bed.attempt(&key, &a.profile())).await;
    b.refused(&bed.attempt(&key, &b.profile())).await;
    a.release(&first, token).await;
    let second = bed.attempt(&key, &b.profile());
    let token = b.take(&second).await.token;
    a.refused(&bed.attempt(&key, &a.profile())).await;
    b.release(&second, token).await;
}

/// Any number of shared holds, and no exclusive one until the last is gone.
pub async fn shared_holds_share_and_exclude_exclusive(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let shared = || AcquireRequest {
        mode: Mode::Shared,
        ..bed.attempt(&key, &a.profile())
    };
    let holds = [shared(), shared(), shared()];
    let tokens = [
        a.take(&holds[0]).await.token,
        b.take(&holds[1]).await.token,
        b.take(&holds[2]).await.token,
    ];
    for (index, sidecar) in [&a, &b, &a].into_iter().enumerate() {
        let exclusive = bed.attempt(&key, &a.profile());
        sidecar.refused(&exclusive).await;
        let owner = if index == 0 { &a } else { &b };
        owner.release(&holds[index], tokens[index]).await;
    }
    b.take(&bed.attempt(&key, &b.profile())).await;
}

/// No shared hold beside an exclusive one.
pub async fn an_exclusive_hold_excludes_shared(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let exclusive = bed.attempt(&key, &a.profile());
    let token = a.take(&exclusive).await.token;
    let shared = AcquireRequest {
        mode: Mode::Shared,
        ..bed.attempt(&key, &b.profile())
    };
    b.refused(&shared).await;
    a.refused(&shared).await;
    a.release(&exclusive, token).await;
    b.take(&shared).await;
}

/// A hundred keys are held at once, and each is its own.
pub async fn keys_do_not_meet(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let mut holds = Vec::new();
    for _ in 0..100 {
        let hold = bed.attempt(&bed.key(), &a.profile());
        let token = a.take(&hold).await.token;
        holds.push((hold, token));
    }
    for (hold, token) in &holds {
        b.refused(&bed.attempt(&hold.key, &b.profile())).await;
        a.release(hold, *token).await;
        b.take(&bed.attempt(&hold.key, &b.profile())).await;
    }
}

/// The same key in another scope is another lock; in the same one it is the same.
pub async fn scopes_do_not_meet_unless_they_mean_to(bed: &Bed) {
    let prefix = bed.scope().as_str().replace('/', "-");
    let meeting = Scope::with_prefix(&prefix).expect("it is a prefix");
    let apart = Scope::with_prefix(&format!("{prefix}/key")).expect("it is a prefix");
    let key = Key::try_new("key/a").expect("it is a key");
    let tail = Key::try_new("a").expect("it is a key");
    let own = bed.sidecar().await;
    let [one, other] = [
        bed.sidecar_in(&meeting).await,
        bed.sidecar_in(&meeting).await,
    ];
    let third = bed.sidecar_in(&apart).await;
    own.take(&bed.attempt(&key, &own.profile())).await;
    one.take(&bed.attempt(&key, &one.profile())).await;
    third.take(&bed.attempt(&key, &third.profile())).await;
    third.take(&bed.attempt(&tail, &third.profile())).await;
    other.refused(&bed.attempt(&key, &other.profile())).await;
}

/// Keys of one byte and of the most bytes, of every byte that is allowed, are locks of their own.
pub async fn every_allowed_key_can_be_locked(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let mut texts = vec![
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@-".to_owned(),
        "x".repeat(Key::MAX_LEN),
        format!("{}y", "x".repeat(Key::MAX_LEN - 1)),
        "a:b/c:d".to_owned(),
        "a/b:c/d".to_owned(),
        "A".to_owned(),
        "a".to_owned(),
        ".hidden".to_owned(),
        "...".to_owned(),
        "1".to_owned(),
        "-".to_owned(),
        "@".to_owned(),
        "_".to_owned(),
    ];
    texts.extend((1..8).map(|n| vec!["s"; n].join("/")));
    for text in &texts {
        let key = Key::try_new(text).expect("it is a key");
        let hold = bed.attempt(&key, &a.profile());
        a.take(&hold).await;
        b.refused(&bed.attempt(&key, &b.profile())).await;
        let seen = b.inspect(&key).await;
        assert_eq!(seen.holders.len(), 1, "{text}");
    }
}
