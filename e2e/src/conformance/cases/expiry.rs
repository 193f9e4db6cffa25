//! How holds end that nobody releases.

use std::time::Duration;

use pawl_lock::{
    Deadline,
    backend::{AcquireRequest, Renewed},
    lease::Mode,
};
use tokio::time::{Instant, sleep};

use crate::conformance::{
    Bed,
    bed::{PATIENCE, SHORT, does_not_apply, ttl},
};

/// A hold ends at its ttl, not before, when its sidecar dies.
pub async fn a_hold_that_nobody_renews_ends(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let short = ttl(SHORT.max(a.profile().min_ttl.as_duration()));
    let key = bed.key();
    let hold = AcquireRequest {
        ttl: short,
        ..bed.attempt(&key, &a.profile())
    };
    // From before the request, however long its answer takes: the hold began later.
    let asked = Instant::now();
    a.take(&hold).await;
    let until_dead = if bed.traits().holds_expire {
        b.refused(&bed.attempt(&key, &b.profile())).await;
        short.as_duration()
    } else {
        sleep(short.as_duration() * 2).await;
        b.refused(&bed.attempt(&key, &b.profile())).await;
        Duration::ZERO
    };
    // Where a hold ends with its sidecar, it is the sidecar that lives whose hold ends at the ttl.
    let a = (bed.traits().holds_expire && bed.server().ends_with_sidecar()).then_some(a);
    let next = bed.attempt(&key, &b.profile());
    b.take_in_the_end(
        &next,
        short.as_duration() + bed.traits().death_seen_within + PATIENCE,
    )
    .await;
    assert!(
        asked.elapsed() + Deadline::GRANULARITY >= until_dead,
        "it ended {:?} after it was asked for",
        asked.elapsed()
    );
    drop(a);
}

/// Renewed in time, it lives beyond its ttl.
pub async fn renewal_extends_a_hold(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let long = Duration::from_secs(2).max(a.profile().min_ttl.as_duration());
    let key = bed.key();
    let hold = AcquireRequest {
        ttl: ttl(long),
        ..bed.attempt(&key, &a.profile())
    };
    let token = a.take(&hold).await.token;
    for _ in 0..5 {
        sleep(long / 4).await;
        let renewed = a.renew(&hold, token).await;
        assert!(matches!(renewed, Renewed::Extended { .. }), "{renewed:?}");
        b.refused(&bed.attempt(&key, &b.profile())).await;
    }
    a.release(&hold, token).await;
}

/// What ended stays ended, whether the key is free or another's.
pub async fn a_lost_hold_is_never_renewed(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    for mode in [Mode::Exclusive, Mode::Shared] {
        let key = bed.key();
        let hold = AcquireRequest {
            mode,
            ttl: ttl(SHORT.max(a.profile().min_ttl.as_duration())),
            ..bed.attempt(&key, &a.profile())
        };
        let token = a.take(&hold).await.token;
        if bed.traits().holds_expire {
            let start = Instant::now();
            while !b.inspect(&key).await.holders.is_empty() {
                assert!(start.elapsed() < PATIENCE, "it never ends");
                sleep(Duration::from_millis(20)).await;
            }
        } else {
            a.release(&hold, token).await;
        }
        assert_eq!(a.renew(&hold, token).await, Renewed::NotOwner, "{mode}");
        assert!(
            b.inspect(&key).await.holders.is_empty(),
            "renewal took it again"
        );
        let other = bed.attempt(&key, &b.profile());
        let others = b.take(&other).await.token;
        assert_eq!(a.renew(&hold, token).await, Renewed::NotOwner, "{mode}");
        b.release(&other, others).await;
        assert_eq!(a.renew(&hold, token).await, Renewed::NotOwner, "{mode}");
        b.take(&bed.attempt(&key, &b.profile())).await;
    }
}

/// An acquire of what is held already counts the ttl from now.
pub async fn asking_again_extends_a_hold(bed: &Bed) {
    if !bed.traits().holds_expire {
        return does_not_apply("its holds do not expire");
    }
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let short = SHORT.max(a.profile().min_ttl.as_duration());
    let hold = AcquireRequest {
        ttl: ttl(short),
        ..bed.attempt(&key, &a.profile())
    };
    a.take(&hold).await;
    let longer = AcquireRequest {
        ttl: ttl(short * 20),
        ..hold
    };
    a.take(&longer).await;
    sleep(short * 2).await;
    b.refused(&bed.attempt(&key, &b.profile())).await;
    assert_eq!(b.inspect(&key).await.holders.len(), 1);
}

/// After a holder was lost the key stays quiet for the attempt's lock delay, and for no longer.
pub async fn the_lock_delay_follows_a_loss(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let short = SHORT.max(a.profile().min_ttl.as_duration());
    let hold = AcquireRequest {
        ttl: ttl(short),
        ..bed.attempt(&key, &a.profile())
    };
    let taken = Instant::now();
    a.take(&hold).await;
    drop(a);
    let delay = Duration::from_millis(1500);
    let next = AcquireRequest {
        lock_delay: delay,
        ..bed.attempt(&key, &b.profile())
    };
    let most = short + bed.traits().death_seen_within + delay + PATIENCE;
    b.take_in_the_end(&next, most).await;
    let quiet = if bed.traits().holds_expire && !bed.server().ends_with_sidecar() {
        short + delay
    } else {
        delay
    };
    let slack = Duration::from_millis(150);
    assert!(
        taken.elapsed() + slack >= quiet,
        "it was given after {:?}",
        taken.elapsed()
    );
}

/// A clean release makes no quiet time, also after an earlier loss was waited out.
pub async fn no_lock_delay_follows_a_release(bed: &Bed) {
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    a.release(&hold, token).await;
    let patient = || AcquireRequest {
        lock_delay: Duration::from_mins(1),
        ..bed.attempt(&key, &b.profile())
    };
    let second = patient();
    let token = b.take(&second).await.token;
    b.release(&second, token).await;
    let third = patient();
    a.take(&third).await;
    a.abandon(&third).await;
    b.take(&patient()).await;
}
