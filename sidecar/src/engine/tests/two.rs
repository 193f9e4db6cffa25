//! Two sidecars on one backend.

use std::time::Duration;

use super::bench::{key, now, on_bench, settings, turns, wait};
use crate::engine::{Ask, EngineError};

const SPEC: &str = "{backend: {memory: {}}, lease: {ttl: 10s, retain: 60s}}";

#[test]
fn a_retained_hold_goes_to_the_sidecar_that_wants_it_without_delay() {
    on_bench(SPEC, async |one| {
        let two = one.another();
        two.apply(vec![settings("p", SPEC)]);
        let beside = two.start();
        turns().await;
        let first = one.grant("a");
        one.engine.release(&first.lease_id, false).await.unwrap();
        let mut asked = two.begin("a", wait(9)).unwrap();
        turns().await;
        let granted = now(&mut asked).expect("no time passed").unwrap();
        assert!(granted.grants[0].token > first.grants[0].token);
        beside.abort();
    });
}

#[test]
fn waiters_of_two_sidecars_are_served_in_the_order_in_which_they_came() {
    on_bench(SPEC, async |one| {
        let two = one.another();
        two.apply(vec![settings("p", SPEC)]);
        let beside = two.start();
        turns().await;
        let mut held = one.grant("a").lease_id;
        let mut holder = &one;
        let mut waiters = Vec::new();
        for n in 0..6 {
            let bench = if n % 2 == 0 { &two } else { &one };
            waiters.push((n, bench, bench.begin("a", wait(50)).unwrap()));
            one.pass(Duration::from_millis(100)).await;
        }
        for n in 0..6 {
            holder.engine.release(&held, false).await.unwrap();
            turns().await;
            let ready = |waiter: &mut (i32, _, crate::engine::Pending)| {
                now(&mut waiter.2).map(|granted| (waiter.0, granted.unwrap().lease_id))
            };
            let served: Vec<_> = waiters.iter_mut().filter_map(ready).collect();
            assert_eq!(served.len(), 1, "round {n}");
            assert_eq!(served[0].0, n);
            let (_, bench, _) = waiters.remove(0);
            (holder, held) = (bench, served[0].1);
        }
        beside.abort();
    });
}

#[test]
fn a_key_that_another_sidecar_holds_is_shown_as_the_backend_sees_it() {
    on_bench(SPEC, async |one| {
        let two = one.another();
        two.apply(vec![settings("p", SPEC)]);
        let beside = two.start();
        turns().await;
        let granted = one.grant("a");
        let policy = two.policy();
        let info = two.engine.inspect(&policy, &key("a")).await.unwrap();
        assert!(!info.is_local);
        assert_eq!(info.holders.len(), 1);
        assert_eq!(info.holders[0].token, Some(granted.grants[0].token));
        let Err(EngineError::Held { holder, .. }) = two.try_now("a", Ask::default()) else {
            panic!("it is held");
        };
        assert_eq!(holder.unwrap().owner.as_str(), "this-pod");
        let free = two.engine.inspect(&policy, &key("b")).await.unwrap();
        assert!(free.holders.is_empty());
        beside.abort();
    });
}
