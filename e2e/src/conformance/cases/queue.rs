//! The order in which waiters are served.

use std::time::Duration;

use pawl_lock::{
    backend::{AcquireRequest, Place},
    lease::{Mode, Order},
};
use tokio::time::{Instant, sleep};

use crate::conformance::{
    Bed,
    bed::{PATIENCE, does_not_apply, waits},
};

/// Waiters of three sidecars get the key in the order in which they came, whoever asks first when it is free.
pub async fn fifo_serves_in_the_order_of_arrival(bed: &Bed) {
    let sidecars = bed.sidecars::<3>().await;
    let profile = sidecars[0].profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let mut held = bed.attempt(&key, &profile);
    let mut token = sidecars[0].take(&held).await.token;
    let mut holder = 0;
    let mut waiters = Vec::new();
    for n in 0..6 {
        let waiter = AcquireRequest {
            place: waits(Duration::ZERO),
            ..bed.attempt(&key, &profile)
        };
        let busy = sidecars[n % 3].refused(&waiter).await;
        if let Some(ahead) = busy.ahead {
            assert_eq!(ahead as usize, n, "places ahead");
        }
        waiters.push((n % 3, waiter));
        // Places that are dated by a clock of milliseconds need different ones.
        sleep(Duration::from_millis(3)).await;
    }
    while !waiters.is_empty() {
        sidecars[holder].release(&held, token).await;
        for (sidecar, late) in waiters.iter().skip(1).rev() {
            sidecars[*sidecar].refused(late).await;
        }
        (holder, held) = waiters.remove(0);
        token = sidecars[holder].take(&held).await.token;
    }
}

/// A place that is asked for late stands where its caller came.
pub async fn fifo_dates_places_back(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued || !bed.traits().queue_is_dated {
        return does_not_apply("its queue is not dated back");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &profile);
    let token = a.take(&hold).await.token;
    let since = |age| AcquireRequest {
        place: waits(Duration::from_millis(age)),
        ..bed.attempt(&key, &profile)
    };
    let (young, old) = (since(1_000), since(30_000));
    b.refused(&young).await;
    let busy = c.refused(&old).await;
    assert_eq!(busy.ahead, Some(0));
    a.release(&hold, token).await;
    b.refused(&young).await;
    let token = c.take(&old).await.token;
    c.release(&old, token).await;
    b.take(&young).await;
}

/// One that does not wait does not pass those who do, also when the key is free.
pub async fn fifo_keeps_newcomers_behind_waiters(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &profile);
    let token = a.take(&hold).await.token;
    let waiting = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &profile)
    };
    b.refused(&waiting).await;
    a.release(&hold, token).await;
    let busy = a.refused(&bed.attempt(&key, &profile)).await;
    assert_eq!(busy.holder, None, "it is free, only not for this one");
    let late = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &profile)
    };
    a.refused(&late).await;
    let token = b.take(&waiting).await.token;
    b.release(&waiting, token).await;
    a.take(&late).await;
}

/// Under `Any` a free key is for whoever asks.
pub async fn any_lets_newcomers_in(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let any = |place| AcquireRequest {
        order: Order::Any,
        place,
        ..bed.attempt(&key, &a.profile())
    };
    let hold = any(None);
    let token = a.take(&hold).await.token;
    let waiting = any(waits(Duration::ZERO));
    b.refused(&waiting).await;
    a.release(&hold, token).await;
    let newcomer = any(None);
    let token = a.take(&newcomer).await.token;
    b.refused(&waiting).await;
    a.release(&newcomer, token).await;
    b.take_in_the_end(&waiting, PATIENCE).await;
}

/// The place of a sidecar that died blocks the queue until it was not asked for its `keep`, not longer.
pub async fn a_dead_place_does_not_block(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &profile);
    let token = a.take(&hold).await.token;
    let keep = Duration::from_millis(1500);
    let dead = AcquireRequest {
        place: Some(Place {
            age: Duration::from_secs(10),
            keep,
        }),
        ..bed.attempt(&key, &profile)
    };
    b.refused(&dead).await;
    let placed = Instant::now();
    drop(b);
    let next = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &profile)
    };
    c.refused(&next).await;
    a.release(&hold, token).await;
    c.take_in_the_end(&next, keep + bed.traits().death_seen_within + PATIENCE)
        .await;
    assert!(
        placed.elapsed() < keep + bed.traits().death_seen_within + Duration::from_secs(3),
        "a dead place blocked for {:?}",
        placed.elapsed()
    );
}

/// Asking without a place gives up the one that was there.
pub async fn a_try_gives_up_the_place(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &profile);
    let token = a.take(&hold).await.token;
    let waiting = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &profile)
    };
    b.refused(&waiting).await;
    let last_try = AcquireRequest {
        place: None,
        ..waiting.clone()
    };
    b.refused(&last_try).await;
    assert_eq!(a.inspect(&key).await.waiters, 0);
    a.release(&hold, token).await;
    c.take(&bed.attempt(&key, &profile)).await;
}

/// A shared waiter stays behind an exclusive one that came before it, though the key is shared.
pub async fn shared_waiters_do_not_pass_an_exclusive_one(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let shared = |place| AcquireRequest {
        mode: Mode::Shared,
        place,
        ..bed.attempt(&key, &profile)
    };
    let hold = shared(None);
    let token = a.take(&hold).await.token;
    let exclusive = AcquireRequest {
        place: waits(Duration::from_secs(1)),
        ..bed.attempt(&key, &profile)
    };
    b.refused(&exclusive).await;
    let behind = shared(waits(Duration::ZERO));
    c.refused(&behind).await;
    c.refused(&shared(None)).await;
    a.release(&hold, token).await;
    c.refused(&behind).await;
    let token = b.take(&exclusive).await.token;
    c.refused(&behind).await;
    b.release(&exclusive, token).await;
    c.take(&behind).await;
}

/// Shared waiters at the head have the key together, in any order; the exclusive one behind them waits for all.
pub async fn shared_heads_are_served_together(bed: &Bed) {
    let [a, b, c] = bed.sidecars().await;
    let profile = a.profile();
    if !profile.is_queued {
        return does_not_apply("it has no queue");
    }
    let key = bed.key();
    let hold = bed.attempt(&key, &profile);
    let token = a.take(&hold).await.token;
    let waiting = |mode, age| AcquireRequest {
        mode,
        place: waits(Duration::from_millis(age)),
        ..bed.attempt(&key, &profile)
    };
    let heads = [waiting(Mode::Shared, 900), waiting(Mode::Shared, 600)];
    let exclusive = waiting(Mode::Exclusive, 300);
    b.refused(&heads[0]).await;
    c.refused(&heads[1]).await;
    c.refused(&exclusive).await;
    a.release(&hold, token).await;
    let second = c.take(&heads[1]).await.token;
    c.refused(&exclusive).await;
    let first = b.take(&heads[0]).await.token;
    c.release(&heads[1], second).await;
    c.refused(&exclusive).await;
    b.release(&heads[0], first).await;
    c.take(&exclusive).await;
}
