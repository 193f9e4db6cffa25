//! The server is paused, killed, cut off. Each case has a server of its own.

use std::{cell::Cell, time::Duration};

use pawl_lock::{
    Key,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, Granted, Outcome,
        Renewed,
    },
    lease::Mode,
};
use tokio::time::{Instant, sleep, timeout};

use crate::conformance::{
    Bed, Sidecar,
    bed::{PATIENCE, does_not_apply, renewal, waits},
    history::{Belief, check},
};

/// Asks until there is an answer: the connection may have to be made again.
async fn acquire_in_the_end(sidecar: &Sidecar, request: &AcquireRequest) -> Acquired {
    let start = Instant::now();
    loop {
        match timeout(Duration::from_secs(1), sidecar.backend.acquire(request)).await {
            Ok(Ok(acquired)) => return acquired,
            Ok(Err(error)) => assert!(start.elapsed() < PATIENCE, "still: {error} ({error:?})"),
            Err(_) => assert!(start.elapsed() < PATIENCE, "it does not answer"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Asks until the server gives the key: what it remembers of holds that ended with it may keep it quiet for a moment.
async fn granted_in_the_end(sidecar: &Sidecar, request: &AcquireRequest) -> Granted {
    let start = Instant::now();
    loop {
        match acquire_in_the_end(sidecar, request).await {
            Acquired::Granted(granted) => return granted,
            Acquired::Busy(busy) => assert!(start.elapsed() < PATIENCE, "still: {busy:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Whatever the server forgets, tokens climb.
pub async fn tokens_climb_across_a_restart(bed: &Bed) {
    if !bed.traits().can_restart {
        return does_not_apply("its server cannot be restarted");
    }
    let a = bed.sidecar().await;
    let key = bed.key();
    let mut last = None;
    for round in 0..2 {
        // Fast cycles, so that tokens run ahead of a clock they may follow.
        for _ in 0..20 {
            let hold = bed.attempt(&key, &a.profile());
            let granted = granted_in_the_end(&a, &hold).await;
            assert!(
                Some(granted.token) > last,
                "{} after {last:?} in round {round}",
                granted.token
            );
            last = Some(granted.token);
            a.release(&hold, granted.token).await;
        }
        bed.server().restart().await;
    }
    let b = bed.sidecar().await;
    let granted = granted_in_the_end(&b, &bed.attempt(&key, &b.profile())).await;
    assert!(
        Some(granted.token) > last,
        "{} after {last:?}",
        granted.token
    );
}

/// A server that keeps its state keeps the hold and its token; one that does not says so at the next renewal.
pub async fn holds_and_a_restart(bed: &Bed) {
    if !bed.traits().can_restart {
        return does_not_apply("its server cannot be restarted");
    }
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    bed.server().restart().await;
    let renew = renewal(&hold, token);
    let start = Instant::now();
    let renewed = loop {
        match timeout(Duration::from_secs(1), a.backend.renew(&renew)).await {
            Ok(Ok(renewed)) => break renewed,
            _ => assert!(start.elapsed() < PATIENCE, "renewal never works again"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    if bed.traits().survives_restart {
        assert!(matches!(renewed, Renewed::Extended { .. }), "{renewed:?}");
        let busy = acquire_in_the_end(&b, &bed.attempt(&key, &b.profile())).await;
        assert!(matches!(busy, Acquired::Busy(_)), "{busy:?}");
        assert_eq!(a.take(&hold).await.token, token);
    } else {
        assert_eq!(renewed, Renewed::NotOwner);
        let next = granted_in_the_end(&b, &bed.attempt(&key, &b.profile())).await;
        assert!(next.token > token, "{next:?}");
    }
}

/// Calls that were given up in a pause do no harm to those after it.
pub async fn calls_work_again_after_a_pause(bed: &Bed) {
    if !bed.traits().can_pause {
        return does_not_apply("its server cannot be paused");
    }
    let [a, b] = bed.sidecars().await;
    let key = bed.key();
    let hold = bed.attempt(&key, &a.profile());
    let token = a.take(&hold).await.token;
    bed.server().pause();
    let mut given_up = 0;
    for _ in 0..20 {
        let renew = renewal(&hold, token);
        if timeout(Duration::from_millis(20), a.backend.renew(&renew))
            .await
            .is_err()
        {
            given_up += 1;
        }
    }
    bed.server().resume();
    assert!(given_up > 0, "the pause was not felt");
    let renewed = a.renew(&hold, token).await;
    assert!(matches!(renewed, Renewed::Extended { .. }), "{renewed:?}");
    b.refused(&bed.attempt(&key, &b.profile())).await;
    a.release(&hold, token).await;
    b.take(&bed.attempt(&key, &b.profile())).await;
}

/// The caller gives up in the pause; after it, the abandonment is settled soon and the key is another's at once.
pub async fn a_call_that_was_given_up_in_a_pause_never_holds(bed: &Bed) {
    if !bed.traits().can_pause {
        return does_not_apply("its server cannot be paused");
    }
    let [a, b] = bed.sidecars().await;
    // Both have a connection: the first call is what makes one.
    for sidecar in [&a, &b] {
        let hold = bed.attempt(&bed.key(), &a.profile());
        sidecar.take(&hold).await;
    }
    let key = bed.key();
    let given_up = bed.attempt(&key, &a.profile());
    bed.server().pause();
    let call = timeout(Duration::from_millis(300), a.backend.acquire(&given_up)).await;
    match call {
        Err(_) => {}
        Ok(Err(error)) => assert_eq!(error.outcome(), Outcome::Unknown, "{error}"),
        Ok(Ok(acquired)) => panic!("the pause was not felt: {acquired:?}"),
    }
    bed.server().resume();
    let healed = Instant::now();
    a.abandon(&given_up).await;
    b.take(&bed.attempt(&key, &b.profile())).await;
    assert!(
        healed.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        healed.elapsed()
    );
}

/// Connections are cut again and again while two sidecars take turns: outcomes are read back, nobody is told what is
/// not so.
pub async fn connections_cut_under_fire(bed: &Bed) {
    if !bed.traits().can_cut {
        return does_not_apply("connections to its server cannot be cut");
    }
    let sidecars = bed.sidecars::<2>().await;
    let key = bed.key();
    let failed = Cell::new(0);
    let start = Instant::now();
    // For a while, and until a cut has met a call: on a crowded machine cuts are rare.
    let is_over = || {
        let is_felt = failed.get() > 0 || start.elapsed() > PATIENCE;
        is_felt && start.elapsed() > Duration::from_secs(2)
    };
    let cutting = async {
        while !is_over() {
            sleep(Duration::from_millis(50)).await;
            bed.server().cut().await;
        }
    };
    let (a, b, ()) = futures::join!(
        cycles(bed, &sidecars[0], &key, &failed, is_over),
        cycles(bed, &sidecars[1], &key, &failed, is_over),
        cutting
    );
    let beliefs = [a, b].concat();
    let failed = failed.get();
    eprintln!("{} grants, {failed} calls failed", beliefs.len());
    assert!(failed > 0, "the cuts were not felt");
    assert!(beliefs.len() >= 4, "only {} grants", beliefs.len());
    check(&beliefs).expect("the history is a lock's");
}

/// Takes and abandons until it is over; counts the acquires that failed.
async fn cycles(
    bed: &Bed,
    sidecar: &Sidecar,
    key: &Key,
    failed: &Cell<u32>,
    is_over: impl Fn() -> bool,
) -> Vec<Belief> {
    let mut beliefs = Vec::new();
    while !is_over() {
        let request = bed.attempt(key, &sidecar.profile());
        let asked = Instant::now();
        let granted = loop {
            match timeout(Duration::from_secs(1), sidecar.backend.acquire(&request)).await {
                Ok(Ok(Acquired::Granted(granted))) => break Some(granted),
                Ok(Ok(Acquired::Busy(_))) => break None,
                Ok(Err(_)) | Err(_) => failed.set(failed.get() + 1),
            }
            assert!(asked.elapsed() < PATIENCE, "it never answers again");
            sleep(Duration::from_millis(2)).await;
        };
        if let Some(granted) = granted {
            let since = Instant::now();
            sleep(Duration::from_millis(2)).await;
            beliefs.push(Belief {
                key: 0,
                mode: Mode::Exclusive,
                token: granted.token,
                asked,
                granted: since,
                ended: Instant::now(),
            });
        }
        abandon_in_the_end(sidecar, &request).await;
    }
    beliefs
}

async fn abandon_in_the_end(sidecar: &Sidecar, request: &AcquireRequest) {
    let abandon = AbandonRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        ttl: request.ttl,
    };
    let start = Instant::now();
    while !matches!(
        timeout(Duration::from_secs(1), sidecar.backend.abandon(&abandon)).await,
        Ok(Ok(Abandoned::Settled))
    ) {
        assert!(
            start.elapsed() < PATIENCE,
            "an abandonment is never settled"
        );
        sleep(Duration::from_millis(2)).await;
    }
}

/// After a cut, slots are told to ask again, and hints work again.
pub async fn hints_come_again_after_a_cut(bed: &Bed) {
    if !bed.traits().can_cut {
        return does_not_apply("connections to its server cannot be cut");
    }
    let [a] = bed.hearing_sidecars().await;
    a.forget();
    bed.server().cut().await;
    assert!(
        a.hears(PATIENCE, |event| *event == BackendEvent::Resync)
            .await,
        "it was not told that hints may have been lost"
    );
    a.until_it_answers().await;
    let other = bed.sidecar().await;
    bed.until_it_hears(&a, &other).await;
    let key = bed.key();
    let waiting = AcquireRequest {
        place: waits(Duration::ZERO),
        ..bed.attempt(&key, &a.profile())
    };
    a.take(&waiting).await;
}
