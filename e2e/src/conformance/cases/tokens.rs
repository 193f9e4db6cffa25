//! Tokens only go up.

use pawl_lock::{BackendToken, backend::AcquireRequest, lease::Mode};

use crate::conformance::{
    Bed,
    bed::{PATIENCE, SHORT, ttl},
};

/// The answer that was lost is read back.
pub async fn asking_again_has_the_same_token(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    for mode in [Mode::Exclusive, Mode::Shared] {
        let key = bed.key();
        let hold = AcquireRequest {
            mode,
            ..bed.attempt(&key, &a.profile())
        };
        let first = a.take(&hold).await.token;
        let second = a.take(&hold).await.token;
        assert_eq!(first, second, "{mode}");
        assert_eq!(b.inspect(&key).await.holders.len(), 1, "{mode}");
        a.release(&hold, first).await;
    }
}

/// Fast cycles on one sidecar.
pub async fn tokens_climb_from_hold_to_hold(bed: &Bed) {
    let a = bed.sidecar().await;
    let key = bed.key();
    let mut last = None;
    for _ in 0..200 {
        let hold = bed.attempt(&key, &a.profile());
        let token = a.take(&hold).await.token;
        assert!(Some(token) > last, "{token} after {last:?}");
        last = Some(token);
        a.release(&hold, token).await;
    }
}

/// From sidecar to sidecar, over releases, deaths, and connections that are made anew.
pub async fn tokens_climb_across_sidecars_and_expiry(bed: &Bed) {
    let key = bed.key();
    let mut last: Option<BackendToken> = None;
    let mut climbs = |token: BackendToken| {
        assert!(Some(token) > last, "{token} after {last:?}");
        last = Some(token);
    };
    for _ in 0..3 {
        let [a, b] = bed.sidecars().await;
        let hold = bed.attempt(&key, &a.profile());
        let token = a
            .take_in_the_end(&hold, PATIENCE + bed.traits().death_seen_within)
            .await
            .token;
        climbs(token);
        a.release(&hold, token).await;
        let dying = AcquireRequest {
            ttl: ttl(SHORT.max(b.profile().min_ttl.as_duration())),
            ..bed.attempt(&key, &b.profile())
        };
        climbs(b.take(&dying).await.token);
    }
}

/// Each shared holder has a token of its own, larger than those before.
pub async fn shared_tokens_are_unique_and_climb(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let mut last = None;
    for _ in 0..10 {
        for sidecar in [&a, &b] {
            let hold = AcquireRequest {
                mode: Mode::Shared,
                ..bed.attempt(&key, &a.profile())
            };
            let token = sidecar.take(&hold).await.token;
            assert!(Some(token) > last, "{token} after {last:?}");
            last = Some(token);
        }
    }
}
