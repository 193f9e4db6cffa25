//! What sidecars are told without asking.

use std::time::Duration;

use pawl_lock::{
    Key,
    backend::{AcquireRequest, BackendEvent, Renewed, Wanted},
    lease::Mode,
};

use crate::conformance::{
    Bed,
    bed::{PATIENCE, does_not_apply, is_turn, waits},
};

/// The wanted of an event about `key`.
fn wanted(event: &BackendEvent, key: &Key) -> Option<Wanted> {
    match event {
        BackendEvent::Wanted { key: of, wanted } if of == key => Some(*wanted),
        _ => None,
    }
}

/// A release tells the head of the queue.
pub async fn a_waiter_is_told_its_turn(bed: &Bed) {
    let [a, b] = bed.hearing_sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    let waiting = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &b.profile())
    };
    b.refused(&waiting).await;
    assert!(
        !b.hears(Duration::from_millis(50), |event| is_turn(event, &key))
            .await,
        "it is not its turn while the key is held"
    );
    a.release(&hold, token).await;
    assert!(
        b.hears(PATIENCE, |event| is_turn(event, &key)).await,
        "it was not told"
    );
    b.take(&waiting).await;
}

/// A release tells all shared waiters at the head.
pub async fn shared_waiters_are_told_together(bed: &Bed) {
    let [a, b, c] = bed.hearing_sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    let waiting = || AcquireRequest {
        mode: Mode::Shared,
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &a.profile())
    };
    b.refused(&waiting()).await;
    c.refused(&waiting()).await;
    a.release(&hold, token).await;
    for sidecar in [&b, &c] {
        assert!(
            sidecar.hears(PATIENCE, |event| is_turn(event, &key)).await,
            "it was not told"
        );
    }
}

/// When the head goes away while the key is free, the next one is told.
pub async fn an_abandoned_place_passes_the_turn_on(bed: &Bed) {
    let [a, b, c] = bed.hearing_sidecars().await;
    if !a.profile().is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    let waiting = |age| AcquireRequest {
        place: waits(Duration::from_millis(age)),
        ..bed.attempt(&key, &a.profile())
    };
    let (head, second) = (waiting(500), waiting(0));
    b.refused(&head).await;
    c.refused(&second).await;
    a.release(&hold, token).await;
    assert!(
        b.hears(PATIENCE, |event| is_turn(event, &key)).await,
        "the head was not told"
    );
    b.abandon(&head).await;
    assert!(
        c.hears(PATIENCE, |event| is_turn(event, &key)).await,
        "the second was not told"
    );
    c.take(&second).await;
}

/// A waiter elsewhere is told to the holder: its mode and how long it waits.
pub async fn a_holder_is_told_that_it_is_wanted(bed: &Bed) {
    let [a, b] = bed.hearing_sidecars().await;
    for (held, wants) in [
        (Mode::Exclusive, Mode::Exclusive),
        (Mode::Exclusive, Mode::Shared),
        (Mode::Shared, Mode::Exclusive),
    ] {
        let key = bed.key();
        let hold = AcquireRequest {
            mode: held,
            ..bed.attempt(&key, &a.profile())
        };
        a.take(&hold).await;
        b.refused(&bed.attempt(&key, &b.profile())).await;
        assert!(
            !a.hears(Duration::from_millis(50), |event| wanted(event, &key)
                .is_some())
                .await,
            "one that does not wait wants nothing"
        );
        let waiting = AcquireRequest {
            mode: wants,
            place: waits(Duration::from_secs(3)),
            ..bed.attempt(&key, &b.profile())
        };
        b.refused(&waiting).await;
        let is_it = |event: &BackendEvent| {
            wanted(event, &key).is_some_and(|wanted| {
                wanted.mode == wants && wanted.age >= Duration::from_millis(2_900)
            })
        };
        assert!(
            a.hears(PATIENCE, is_it).await,
            "{held} was not told that {wants} is wanted"
        );
    }
}

/// Grants and renewals carry the oldest waiter they stand in the way of, should the event have been lost.
pub async fn calls_tell_the_oldest_waiter(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &profile);
    let granted = a.take(&hold).await;
    assert_eq!(granted.wanted, None);
    let renewed = a.renew(&hold, granted.token).await;
    assert_eq!(renewed, Renewed::Extended { wanted: None });
    let waiting = |mode, seconds| AcquireRequest {
        mode,
        place: waits(Duration::from_secs(seconds)),
        ..bed.attempt(&key, &profile)
    };
    let (older, younger) = (waiting(Mode::Shared, 40), waiting(Mode::Exclusive, 10));
    b.refused(&older).await;
    c.refused(&younger).await;
    let check = |wanted: Option<Wanted>, mode, seconds| {
        let wanted = wanted.expect("somebody waits");
        assert_eq!(wanted.mode, mode);
        let age = Duration::from_secs(seconds);
        assert!(
            !bed.traits().queue_is_dated || wanted.age >= age,
            "{wanted:?}"
        );
    };
    let Renewed::Extended { wanted } = a.renew(&hold, granted.token).await else {
        panic!("it is held");
    };
    check(wanted, Mode::Shared, 40);
    check(a.take(&hold).await.wanted, Mode::Shared, 40);
    // The shared hold that follows stands in the way of the exclusive waiter only.
    a.release(&hold, granted.token).await;
    check(b.take(&older).await.wanted, Mode::Exclusive, 10);
}
