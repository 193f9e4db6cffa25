//! Law 5: a waiter that left never holds.

use std::sync::Arc;

use super::bench::{Answer, Gate, now, on_bench, turns, wait};
use crate::{engine::Ask, metrics::Operation};

const SPEC: &str = "{backend: {memory: {}}, lease: {ttl: 3s, retain: 0s}}";

#[test]
fn a_waiter_that_left_gives_up_its_place() {
    on_bench(SPEC, async |bench| {
        let held = bench.grant("a");
        let leaver = bench.begin("a", wait(10)).unwrap();
        let mut next = bench.begin("a", wait(10)).unwrap();
        assert_eq!((leaver.ahead(), next.ahead()), (Some(0), Some(1)));
        drop(leaver);
        assert_eq!(next.ahead(), Some(0));
        bench.engine.release(&held.lease_id, false).await.unwrap();
        assert!(now(&mut next).unwrap().is_ok());
    });
}

#[test]
fn a_grant_that_raced_is_released() {
    on_bench(SPEC, async |bench| {
        let gate = Arc::<Gate>::default();
        bench
            .script
            .set(Operation::Acquire, Answer::Late(Arc::clone(&gate)));
        let mut leaver = bench.begin("a", wait(10)).unwrap();
        assert!(now(&mut leaver).is_none());
        turns().await;
        drop(leaver);
        gate.open();
        turns().await;
        assert_eq!(bench.script.calls(Operation::Acquire), 1);
        assert_eq!(bench.holders("a").await, 0);
        assert_eq!(bench.slots(), 0, "nothing is left of it");
        assert_eq!(bench.engine.state().leases.len(), 0);
    });
}

#[test]
fn a_grant_that_nobody_came_for_is_released() {
    on_bench(SPEC, async |bench| {
        drop(bench.begin("a", Ask::default()).unwrap());
        turns().await;
        assert_eq!(bench.holders("a").await, 0);

        let held = bench.grant("a");
        let leaver = bench.begin("a", wait(10)).unwrap();
        bench.engine.release(&held.lease_id, false).await.unwrap();
        turns().await;
        assert_eq!(
            bench.engine.state().leases.len(),
            1,
            "granted, not yet fetched"
        );
        drop(leaver);
        turns().await;
        assert_eq!(bench.engine.state().leases.len(), 0);
        assert_eq!(bench.holders("a").await, 0);
    });
}

#[test]
fn ten_thousand_waiters_come_and_go_without_a_trace() {
    on_bench(SPEC, async |bench| {
        let held = bench.grant("a");
        let mut waiters: Vec<_> = (0..10_000)
            .map(|_| bench.begin("a", wait(60)).unwrap())
            .collect();
        assert_eq!(bench.engine.overview(&bench.policy()).waiter_count, 10_000);
        assert_eq!(waiters[9_999].ahead(), Some(9_999));
        assert!(
            bench.engine.state().timers.len() < 10,
            "a waiter has no timer of its own"
        );
        bench.engine.release(&held.lease_id, false).await.unwrap();
        let first = now(&mut waiters.remove(0))
            .expect("the first is served")
            .unwrap();
        waiters.truncate(1);
        assert_eq!(bench.engine.overview(&bench.policy()).waiter_count, 1);
        bench.engine.release(&first.lease_id, false).await.unwrap();
        assert!(now(&mut waiters[0]).expect("the second is served").is_ok());
        drop(waiters);
        turns().await;
        assert_eq!(bench.slots(), 1, "the lease of the second lives");
        let state = bench.engine.state();
        assert!(state.acquisitions.is_empty() && state.aliases.is_empty());
    });
}
