//! Leases over several keys: all or none.

use std::time::Duration;

use pawl_lock::{LossReason, lease::Renew};

use super::bench::{Bench, key, now, on_bench, turns, wait};
use crate::engine::{Ask, AskProblem, EngineError, Field, LeaseError, LeaseEvent, MAX_KEYS};

const SPEC: &str = "{backend: {memory: {}}, lease: {ttl: 3s, retain: 0s}}";

#[test]
fn all_keys_come_under_one_id_in_the_order_of_their_bytes() {
    on_bench(SPEC, async |bench| {
        let granted = now(&mut bench
            .begin_several(&["b", "a/1", "a"], Ask::default())
            .unwrap());
        let granted = granted.unwrap().unwrap();
        let keys: Vec<&str> = granted
            .grants
            .iter()
            .map(|grant| grant.key.as_str())
            .collect();
        assert_eq!(keys, ["a", "a/1", "b"]);
        for name in keys {
            assert!(
                bench.try_now(name, Ask::default()).is_err(),
                "{name} is held"
            );
        }
        bench.pass_secs(10).await;
        assert_eq!(
            bench.engine.lease(&granted.lease_id).unwrap().grants,
            granted.grants
        );
        bench.engine.release(&granted.lease_id, true).await.unwrap();
        assert_eq!(bench.slots(), 0);
    });
}

#[test]
fn none_is_kept_when_one_is_not_to_be_had() {
    on_bench(SPEC, async |bench| {
        let _b = bench.grant("b");
        let refused = now(&mut bench
            .begin_several(&["c", "a", "b"], Ask::default())
            .unwrap());
        let Some(Err(EngineError::Held { key: held, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(held, key("b"));
        turns().await;
        assert_eq!(bench.holders("a").await, 0);
        bench.grant("a");
        bench.grant("c");
    });
}

#[test]
fn a_caller_that_leaves_half_way_keeps_nothing() {
    on_bench(SPEC, async |bench| {
        let b = bench.grant("b");
        let mut half = bench.begin_several(&["a", "b", "c"], wait(10)).unwrap();
        assert!(now(&mut half).is_none());
        assert_eq!(bench.holders("a").await, 1);
        drop(half);
        turns().await;
        assert_eq!(bench.holders("a").await, 0);
        bench.engine.release(&b.lease_id, false).await.unwrap();
        turns().await;
        assert_eq!(bench.slots(), 0);
        let state = bench.engine.state();
        assert!(state.holdings.is_empty() && state.aliases.is_empty());
    });
}

#[test]
fn the_wait_is_one_budget_for_all_keys() {
    on_bench(SPEC, async |bench| {
        let a = bench.grant("a");
        let _b = bench.grant("b");
        let mut asked = bench.begin_several(&["a", "b"], wait(2)).unwrap();
        bench.pass(Duration::from_millis(1_500)).await;
        bench.engine.release(&a.lease_id, false).await.unwrap();
        bench.pass(Duration::from_millis(400)).await;
        assert!(now(&mut asked).is_none(), "waits for b");
        bench.pass(Duration::from_millis(200)).await;
        assert!(matches!(
            now(&mut asked),
            Some(Err(EngineError::Held { .. }))
        ));
    });
}

#[test]
fn keys_that_are_taken_are_kept_alive_for_whoever_renews_himself() {
    on_bench(SPEC, async |bench| {
        let b = bench.grant("b");
        let ask = Ask {
            renew: Some(Renew::Manual),
            ..wait(20)
        };
        let mut asked = bench.begin_several(&["a", "b"], ask).unwrap();
        bench.pass_secs(10).await;
        assert!(now(&mut asked).is_none());
        bench.engine.release(&b.lease_id, false).await.unwrap();
        let granted = now(&mut asked).unwrap().unwrap();
        let left = granted.deadline.left(bench.engine.clock().now());
        assert!(left > Duration::from_millis(1_900), "{left:?}");
        bench.pass_secs(4).await;
        let lost = bench.engine.lease(&granted.lease_id);
        assert!(
            matches!(
                lost,
                Err(LeaseError::Lost {
                    reason: LossReason::NotRenewed
                })
            ),
            "{lost:?}"
        );
    });
}

#[test]
fn the_loss_of_one_key_is_the_loss_of_all() {
    on_bench(SPEC, async |bench| {
        let granted = now(&mut bench.begin_several(&["a", "b"], Ask::default()).unwrap());
        let granted = granted.unwrap().unwrap();
        let mut events = bench.engine.subscribe(&granted.lease_id).unwrap();
        let part = bench.engine.state().leases[&granted.lease_id]
            .parts
            .as_slice()[1]
            .clone();
        {
            let now = bench.engine.clock().now();
            let mut state = bench.engine.state();
            let reason = LossReason::NotOwner;
            let lease = part.lease;
            state.push(part.slot, pawl_lock::slot::Event::Revoke { lease, reason });
            state.settle(now);
        }
        assert_eq!(
            events.next().await,
            Some(LeaseEvent::Lost {
                reason: LossReason::NotOwner
            })
        );
        let lost = bench.engine.release(&granted.lease_id, false).await;
        assert!(
            matches!(
                lost,
                Err(LeaseError::Lost {
                    reason: LossReason::NotOwner
                })
            ),
            "{lost:?}"
        );
        assert!(
            bench.engine.state().holdings.is_empty(),
            "its sibling went with it"
        );
        turns().await;
        bench.grant("a");
        bench.grant("b");
    });
}

#[test]
fn a_policy_that_goes_takes_half_an_acquire_with_it() {
    on_bench(SPEC, async |bench| {
        let _b = bench.grant("b");
        let mut half = bench.begin_several(&["a", "b"], wait(10)).unwrap();
        assert_eq!(bench.holders("a").await, 1);
        bench.apply(vec![]);
        assert!(matches!(
            now(&mut half),
            Some(Err(EngineError::UnknownPolicy { .. }))
        ));
        turns().await;
        assert_eq!(bench.holders("a").await, 0);
    });
}

#[test]
fn a_bound_half_way_gives_everything_back() {
    let spec = "{backend: {memory: {}}, lease: {retain: 0s}, keys: {maxHeld: 2}}";
    on_bench(spec, async |bench| {
        let asked = now(&mut bench.begin_several(&["a", "b", "c"], wait(9)).unwrap());
        assert!(
            matches!(asked, Some(Err(EngineError::Limit { .. }))),
            "{asked:?}"
        );
        turns().await;
        assert_eq!(bench.slots(), 0);
    });
}

#[test]
fn callers_that_name_keys_in_opposite_orders_never_wait_for_each_other() {
    on_bench(SPEC, async |bench| {
        let rounds = 200;
        let caller = |bench: Bench, names: [&'static str; 3]| async move {
            for _ in 0..rounds {
                let granted = bench
                    .begin_several(&names, wait(30))
                    .unwrap()
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
                bench
                    .engine
                    .release(&granted.lease_id, false)
                    .await
                    .unwrap();
            }
        };
        let mut callers = tokio::task::JoinSet::new();
        for names in [
            ["a", "b", "c"],
            ["c", "b", "a"],
            ["b", "c", "a"],
            ["c", "a", "b"],
        ] {
            callers.spawn_local(caller(bench.clone(), names));
        }
        // The clock stands still: whoever waited for another for ever would be seen here.
        let all = tokio::time::timeout(Duration::from_mins(1), callers.join_all());
        assert!(all.await.is_ok(), "deadlock");
        turns().await;
        assert_eq!(bench.slots(), 0);
    });
}

#[test]
fn keys_are_checked_before_any_is_taken() {
    on_bench(
        "{backend: {memory: {}}, keys: {allow: [\"a/*\"]}}",
        async |bench| {
            let wrong = |names: &[&str]| bench.begin_several(names, Ask::default()).unwrap_err();
            let problem = |error: EngineError| match error {
                EngineError::Invalid {
                    field: Field::Keys,
                    problem,
                } => problem,
                other => panic!("{other}"),
            };
            assert_eq!(problem(wrong(&[])), AskProblem::Empty);
            assert_eq!(problem(wrong(&["a/1", "a/1"])), AskProblem::Duplicate);
            let many: Vec<String> = (0..=MAX_KEYS).map(|n| format!("a/{n}")).collect();
            let many: Vec<&str> = many.iter().map(String::as_str).collect();
            assert_eq!(
                problem(wrong(&many)),
                AskProblem::TooMany { most: MAX_KEYS }
            );
            assert!(matches!(
                wrong(&["a/1", "b"]),
                EngineError::KeyNotAllowed { .. }
            ));
            assert_eq!(bench.slots(), 0);
            let most = now(&mut bench.begin_several(&many[1..], Ask::default()).unwrap());
            assert_eq!(most.unwrap().unwrap().grants.len(), MAX_KEYS);
        },
    );
}
