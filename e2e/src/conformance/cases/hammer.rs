//! Many sidecars at once, and the history of what they believed.

use std::time::Duration;

use futures::future::join_all;
use pawl_lock::{
    Deadline, Key,
    backend::{AcquireRequest, Acquired, BackendEvent},
    lease::Mode,
};
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::conformance::{
    Bed, Sidecar,
    bed::{LONG, PATIENCE, does_not_apply, ttl, waits},
    history::{Belief, check},
};

/// How long a fire lasts.
const FIRE: Duration = Duration::from_millis(1500);

/// Four sidecars fight over two keys.
pub async fn exclusive_holds_under_fire(bed: &Bed) {
    fire(bed, |_| Mode::Exclusive).await;
}

/// The same, two thirds of them shared.
pub async fn shared_and_exclusive_holds_under_fire(bed: &Bed) {
    fire(bed, |n| {
        if n.is_multiple_of(3) {
            Mode::Exclusive
        } else {
            Mode::Shared
        }
    })
    .await;
}

async fn fire(bed: &Bed, mode: fn(u32) -> Mode) {
    let sidecars = bed.sidecars::<4>().await;
    let keys = [bed.key(), bed.key()];
    let end = Instant::now() + FIRE;
    let workers = (0..12).map(|worker| fighter(bed, &sidecars[worker % 4], &keys, mode, end));
    let beliefs: Vec<Belief> = join_all(workers).await.concat();
    assert!(
        beliefs.len() >= 20,
        "only {} grants: nothing was tried",
        beliefs.len()
    );
    check(&beliefs).expect("the history is a lock's");
    eprintln!("{} grants in {FIRE:?}", beliefs.len());
}

/// Takes, holds a moment and lets go (or dies, or abandons) until the end.
async fn fighter(
    bed: &Bed,
    sidecar: &Sidecar,
    keys: &[Key],
    mode: fn(u32) -> Mode,
    end: Instant,
) -> Vec<Belief> {
    let mut beliefs = Vec::new();
    while Instant::now() < end {
        let dice: u32 = rand::rng().random_range(0..1000);
        let key = dice as usize % keys.len();
        let request = AcquireRequest {
            mode: mode(dice),
            ttl: ttl(LONG),
            ..bed.attempt(&keys[key], &sidecar.profile())
        };
        let asked = Instant::now();
        let Acquired::Granted(grant) = sidecar.acquire(&request).await else {
            sleep(Duration::from_micros(u64::from(dice) * 5)).await;
            continue;
        };
        let granted = Instant::now();
        sleep(Duration::from_micros(u64::from(dice) * 3)).await;
        let ended = Instant::now();
        assert!(
            ended < asked + Deadline::validity(request.ttl),
            "the machine stood still"
        );
        beliefs.push(Belief {
            key,
            mode: request.mode,
            token: grant.token,
            asked,
            granted,
            ended,
        });
        if dice.is_multiple_of(5) {
            sidecar.abandon(&request).await;
        } else {
            sidecar.release(&request, grant.token).await;
        }
    }
    beliefs
}

/// Eight waiters of four sidecars in one queue: each waits for its turn, asks once in a while, and is served.
pub async fn waiters_under_fire_are_all_served(bed: &Bed) {
    let sidecars = bed.hearing_sidecars::<4>().await;
    if !sidecars[0].profile().is_queued {
        return does_not_apply("it has no queue");
    }
    let keys = [bed.key(), bed.key()];
    let rounds = 10;
    let workers = (0..8).map(|worker| {
        queuer(
            bed,
            &sidecars[worker % 4],
            &keys[worker / 4],
            worker / 4,
            rounds,
        )
    });
    let beliefs: Vec<Belief> = join_all(workers).await.concat();
    assert_eq!(beliefs.len(), 8 * rounds);
    check(&beliefs).expect("the history is a lock's");
}

async fn queuer(
    bed: &Bed,
    sidecar: &Sidecar,
    key: &Key,
    number: usize,
    rounds: usize,
) -> Vec<Belief> {
    let mut beliefs = Vec::new();
    for _ in 0..rounds {
        let came = Instant::now();
        let mut request = bed.attempt(key, &sidecar.profile());
        let (asked, grant) = loop {
            request.place = waits(came.elapsed());
            let asked = Instant::now();
            match sidecar.acquire(&request).await {
                Acquired::Granted(grant) => break (asked, grant),
                Acquired::Busy(_) => {
                    let is_it = |event: &BackendEvent| matches!(event, BackendEvent::Turn { key: of } if of == key);
                    drop(timeout(Duration::from_millis(250), sidecar.hears(PATIENCE, is_it)).await);
                    sidecar.forget();
                }
            }
            assert!(came.elapsed() < PATIENCE, "a waiter is never served");
        };
        let granted = Instant::now();
        sleep(Duration::from_millis(1)).await;
        beliefs.push(Belief {
            key: number,
            mode: request.mode,
            token: grant.token,
            asked,
            granted,
            ended: Instant::now(),
        });
        sidecar.release(&request, grant.token).await;
    }
    beliefs
}
