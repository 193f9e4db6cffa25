//! Release and abandonment.

use std::{task::Poll, time::Duration};

use pawl_lock::{
    backend::{AcquireRequest, Acquired},
    lease::Mode,
};
use rand::RngExt as _;

use crate::conformance::{
    Bed,
    bed::{does_not_apply, waits},
};

/// Only the holder's id lets go.
pub async fn release_by_another_id_does_nothing(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    for mode in [Mode::Exclusive, Mode::Shared] {
        let key = bed.key();
        let hold = AcquireRequest {
            mode,
            ..bed.attempt(&key, &a.profile())
        };
        let token = a.take(&hold).await.token;
        let forged = AcquireRequest {
            hold: bed.id(),
            ..hold.clone()
        };
        assert!(!b.let_go(&forged, token, None).await.was_owner);
        b.refused(&bed.attempt(&key, &b.profile())).await;
        a.release(&hold, token).await;
    }
}

/// The same release again changes nothing, not even when another holds.
pub async fn a_second_release_says_so(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    a.release(&hold, token).await;
    assert!(!a.let_go(&hold, token, None).await.was_owner);
    let other = bed.attempt(&key, &b.profile());
    let others = b.take(&other).await.token;
    assert!(!a.let_go(&hold, token, None).await.was_owner);
    b.release(&other, others).await;
}

/// With nobody else waiting, the next attempt has the hold with the answer, in either mode.
pub async fn release_takes_the_next_in_the_same_step(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let mut hold = bed.attempt(&key, &a.profile());
    let mut token = a.take(&hold).await.token;
    for mode in [Mode::Exclusive, Mode::Shared, Mode::Exclusive] {
        let next = AcquireRequest {
            mode,
            place: waits(Duration::from_millis(30)),
            ..bed.attempt(&key, &a.profile())
        };
        let released = a.let_go(&hold, token, Some(next.clone())).await;
        assert!(released.was_owner);
        let Some(Acquired::Granted(granted)) = released.next else {
            panic!("{mode}: {:?}", released.next);
        };
        assert!(granted.token > token, "{} after {token}", granted.token);
        b.refused(&bed.attempt(&key, &b.profile())).await;
        (hold, token) = (next, granted.token);
    }
    a.release(&hold, token).await;
}

/// With an older waiter elsewhere, the next attempt queues behind it.
pub async fn release_leaves_the_next_in_its_place(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    if !a.profile().is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    let remote = AcquireRequest {
        place: waits(Duration::from_secs(5)),
        ..bed.attempt(&key, &b.profile())
    };
    b.refused(&remote).await;
    let next = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &a.profile())
    };
    let released = a.let_go(&hold, token, Some(next.clone())).await;
    assert!(released.was_owner);
    assert!(
        matches!(released.next, Some(Acquired::Busy(_))),
        "{:?}",
        released.next
    );
    let remotes = b.take(&remote).await.token;
    a.refused(&next).await;
    b.release(&remote, remotes).await;
    a.take(&next).await;
}

/// A release that comes too late still makes the next attempt.
pub async fn a_next_attempt_follows_even_a_lost_hold(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    a.release(&hold, token).await;
    let next = bed.attempt(&key, &a.profile());
    let released = a.let_go(&hold, token, Some(next)).await;
    assert!(!released.was_owner);
    assert!(
        matches!(released.next, Some(Acquired::Granted(_))),
        "{:?}",
        released.next
    );
    b.refused(&bed.attempt(&key, &b.profile())).await;
}

/// There is nothing to abandon, and that is settled.
pub async fn abandon_of_an_unknown_attempt_settles(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    a.abandon(&bed.attempt(&key, &a.profile())).await;
    let hold = bed.attempt(&key, &b.profile());
    let token = b.take(&hold).await.token;
    a.abandon(&bed.attempt(&key, &a.profile())).await;
    b.release(&hold, token).await;
}

/// A hold that is abandoned is free at once.
pub async fn abandon_ends_a_hold(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    for mode in [Mode::Exclusive, Mode::Shared] {
        let key = bed.key();
        let hold = AcquireRequest {
            mode,
            ..bed.attempt(&key, &a.profile())
        };
        a.take(&hold).await;
        a.abandon(&hold).await;
        let next = AcquireRequest {
            lock_delay: Duration::from_mins(1),
            ..bed.attempt(&key, &b.profile())
        };
        b.take(&next).await;
    }
}

/// A place that is abandoned blocks nobody.
pub async fn abandon_gives_up_a_place(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    if !a.profile().is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    let waiting = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &b.profile())
    };
    b.refused(&waiting).await;
    assert_eq!(c.inspect(&key).await.waiters, 1);
    b.abandon(&waiting).await;
    assert_eq!(c.inspect(&key).await.waiters, 0);
    a.release(&hold, token).await;
    c.take(&bed.attempt(&key, &c.profile())).await;
}

/// Calls are dropped at any point of their life and abandoned; once that is settled the key stays free.
pub async fn nothing_comes_after_an_abandonment_is_settled(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    for round in 0..100 {
        let key = bed.key();
        let attempt = bed.attempt(&key, &a.profile());
        {
            let mut call = a.backend.acquire(&attempt);
            let patience = Duration::from_micros(rand::rng().random_range(0..600));
            if round % 3 == 0 {
                let _: Poll<_> = futures::poll!(&mut call);
            } else {
                drop(tokio::time::timeout(patience, &mut call).await);
            }
        }
        a.abandon(&attempt).await;
        let other = bed.attempt(&key, &b.profile());
        let token = b.take(&other).await.token;
        b.release(&other, token).await;
        assert!(
            b.inspect(&key).await.holders.is_empty(),
            "a late call took it"
        );
    }
}
