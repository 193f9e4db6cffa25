//! What a backend shows, and its fence.

use std::time::Duration;

use pawl_lock::{
    FencingToken, Key,
    backend::{AcquireRequest, FenceVerdict, Renewed},
    lease::Mode,
};

use crate::conformance::{
    Bed, Sidecar,
    bed::{LONG, owner, renewal, waits},
};

/// Nobody; one; several; and how many wait.
pub async fn inspect_shows_holders_and_waiters(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let seen = a.inspect(&key).await;
    assert!(seen.holders.is_empty() && seen.waiters == 0, "{seen:?}");
    let shared = |name| AcquireRequest {
        mode: Mode::Shared,
        owner: owner(name),
        ..bed.attempt(&key, &a.profile())
    };
    let holds = [
        (&a, shared("one")),
        (&b, shared("with a blank, a | and a \"")),
    ];
    for (sidecar, hold) in &holds {
        sidecar.take(hold).await;
    }
    if a.profile().is_queued {
        let waiting = AcquireRequest {
            place: waits(Duration::ZERO),
            ..bed.attempt(&key, &a.profile())
        };
        a.refused(&waiting).await;
        assert_eq!(b.inspect(&key).await.waiters, 1);
    }
    let mut seen = b.inspect(&key).await.holders;
    seen.sort_by(|x, y| x.owner.cmp(&y.owner));
    let owners: Vec<&str> = seen.iter().map(|holder| holder.owner.as_str()).collect();
    assert_eq!(owners, ["one", "with a blank, a | and a \""]);
    for holder in &seen {
        assert_eq!(holder.mode, Mode::Shared);
        assert!(
            holder
                .held_for
                .is_none_or(|held| held < Duration::from_secs(30)),
            "{holder:?}"
        );
        assert!(
            holder.expires_in.is_none_or(|left| left <= LONG),
            "{holder:?}"
        );
    }
}

/// A renewal may name another owner: the lease inside the hold changed.
pub async fn renewal_shows_the_new_owner(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    for mode in [Mode::Exclusive, Mode::Shared] {
        let key = bed.key();
        let hold = AcquireRequest {
            mode,
            owner: owner("before"),
            ..bed.attempt(&key, &a.profile())
        };
        let token = a.take(&hold).await.token;
        let mut renew = renewal(&hold, token);
        renew.owner = owner("after");
        let renewed = a.backend.renew(&renew).await.expect("it is answered");
        assert!(matches!(renewed, Renewed::Extended { .. }), "{renewed:?}");
        assert_eq!(
            b.inspect(&key).await.holders[0].owner,
            owner("after"),
            "{mode}"
        );
    }
}

/// Who holds it, in the answer to those who cannot have it.
pub async fn busy_shows_the_holder(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let hold = AcquireRequest {
        owner: owner("the holder"),
        ..bed.attempt(&key, &a.profile())
    };
    let token = a.take(&hold).await.token;
    let busy = b.refused(&bed.attempt(&key, &b.profile())).await;
    let holder = busy.holder.expect("there is one");
    assert_eq!(
        (holder.owner, holder.mode),
        (owner("the holder"), Mode::Exclusive)
    );
    assert!(holder.token.is_none_or(|shown| shown == token));
    assert!(
        busy.retry_in.is_none_or(|retry| retry <= LONG),
        "{:?}",
        busy.retry_in
    );
}

async fn present(sidecar: &Sidecar, key: &Key, token: u64) -> FenceVerdict {
    let token = FencingToken::try_new(token).expect("it is a token");
    sidecar
        .backend
        .fence(key, token)
        .await
        .expect("the fence answers")
}

fn stale(highest: u64) -> FenceVerdict {
    FenceVerdict::Stale {
        highest: FencingToken::try_new(highest).expect("it is a token"),
    }
}

/// Equal passes, larger passes and is remembered, smaller does not; also at the end of the range.
pub async fn a_fence_remembers_the_highest(bed: &Bed) {
    let a = bed.sidecar().await;
    let (key, other) = (bed.key(), bed.key());
    let most = FencingToken::MAX.get();
    for (token, verdict) in [
        (10, FenceVerdict::Newest),
        (10, FenceVerdict::Newest),
        (9, stale(10)),
        (11, FenceVerdict::Newest),
        (10, stale(11)),
        (most - 1, FenceVerdict::Newest),
        (most - 2, stale(most - 1)),
        (most, FenceVerdict::Newest),
        (most - 1, stale(most)),
    ] {
        assert_eq!(present(&a, &key, token).await, verdict, "token {token}");
    }
    assert_eq!(present(&a, &other, 1).await, FenceVerdict::Newest);
}

/// What one sidecar saw, the others know; holding and waiting have no say in it.
pub async fn a_fence_is_shared_by_all_sidecars(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    a.take(&bed.attempt(&key, &a.profile())).await;
    assert_eq!(present(&a, &key, 1000).await, FenceVerdict::Newest);
    assert_eq!(present(&b, &key, 999).await, stale(1000));
    assert_eq!(present(&b, &key, 1001).await, FenceVerdict::Newest);
    assert_eq!(present(&a, &key, 1000).await, stale(1001));
}

/// The server as the suite starts it is fit for locks.
pub async fn a_good_server_has_no_fatal_finding(bed: &Bed) {
    let a = bed.sidecar().await;
    let findings = a.backend.check().await.expect("the server is reached");
    assert!(
        !findings.iter().any(|finding| finding.is_fatal),
        "{findings:?}"
    );
}
