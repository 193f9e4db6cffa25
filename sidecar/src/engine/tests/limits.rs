//! Bounds, and what is refused before anything is asked of a slot.

use std::time::Duration;

use super::bench::{Bench, key, now, on_bench, settings, turns, wait};
use crate::engine::{Ask, AskProblem, EngineError, Field, Limit, Limits, PolicySelector};

fn limit(error: EngineError) -> (Limit, u64) {
    match error {
        EngineError::Limit { limit, most, .. } => (limit, most),
        other => panic!("{other}"),
    }
}

#[test]
fn keys_that_are_held_are_bounded_and_retained_holds_make_room() {
    on_bench(
        "{backend: {memory: {}}, keys: {maxHeld: 2}}",
        async |bench| {
            let first = bench.grant("a");
            let _second = bench.grant("b");
            let refused = bench.try_now("c", Ask::default()).unwrap_err();
            assert_eq!(limit(refused), (Limit::MaxHeld, 2));
            assert!(matches!(
                bench.try_now("a", Ask::default()),
                Err(EngineError::Held { .. })
            ));
            bench.engine.release(&first.lease_id, false).await.unwrap();
            assert_eq!(bench.holders("a").await, 1, "retained");
            bench.grant("c");
            turns().await;
            assert_eq!(bench.holders("a").await, 0, "made room");
            assert_eq!(bench.slots(), 2);
        },
    );
}

#[test]
fn waiters_are_bounded_by_the_policy() {
    on_bench(
        "{backend: {memory: {}}, keys: {maxWaiters: 2}}",
        async |bench| {
            let _held = bench.grant("a");
            let first = bench.begin("a", wait(9)).unwrap();
            let _second = bench.begin("a", wait(9)).unwrap();
            let refused = bench.begin("a", wait(9)).unwrap_err();
            assert_eq!(limit(refused), (Limit::MaxWaiters, 2));
            drop(first);
            assert!(bench.begin("a", wait(9)).is_ok());
            let results = bench.metric("pawl_lock_acquires_total");
            let line = |result: &str, count: u64| {
                format!(
                    r#"pawl_lock_acquires_total{{backend="memory",policy="p",result="{result}"}} {count}"#
                )
            };
            for line in [line("limit", 1), line("cancelled", 2), line("granted", 1)] {
                assert!(results.contains(&line), "{line} in {results:?}");
            }
        },
    );
}

#[test]
fn the_sidecar_has_bounds_of_its_own() {
    let bench = Bench::new(Limits {
        keys: 3,
        leases: 2,
        waiters: 1,
    });
    bench.apply(vec![settings("p", "{backend: {memory: {}}}")]);
    bench.run(async |bench| {
        let _first = bench.grant("a");
        let second = bench.grant("b");
        let refused = bench.try_now("c", Ask::default()).unwrap_err();
        assert_eq!(limit(refused), (Limit::Leases, 2));
        bench.engine.give_up(&second.lease_id);
        let _waiting = bench.begin("a", wait(9)).unwrap();
        let refused = bench.try_now("c", Ask::default()).unwrap_err();
        assert_eq!(limit(refused), (Limit::Waiters, 1));
    });
}

#[test]
fn a_million_keys_leave_nothing_behind() {
    let bench = Bench::new(Limits {
        keys: 50,
        ..Limits::default()
    });
    bench.apply(vec![settings(
        "p",
        "{backend: {memory: {}}, keys: {maxHeld: 20}}",
    )]);
    bench.run(async |bench| {
        let series = bench
            .registry
            .gather()
            .iter()
            .map(|family| family.get_metric().len())
            .sum::<usize>();
        for n in 0..20_000 {
            let granted = bench.grant(&format!("k/{n}"));
            bench.engine.give_up(&granted.lease_id);
            assert!(bench.slots() <= 20);
        }
        let after = bench
            .registry
            .gather()
            .iter()
            .map(|family| family.get_metric().len())
            .sum::<usize>();
        assert_eq!(after, series, "no key makes a series");
        bench.pass_secs(12).await;
        assert_eq!(bench.slots(), 0);
        let state = bench.engine.state();
        assert!(state.timers.is_empty() && state.holdings.is_empty() && state.calls.is_empty());
    });
}

#[test]
fn what_an_ask_may_say_is_the_policys() {
    let spec = "{backend: {memory: {}}, lease: {ttl: 1s, maxTtl: 5s, maxHold: 8s}, acquire: {wait: 1s, maxWait: 3s}}";
    on_bench(spec, async |bench| {
        let seconds = Duration::from_secs;
        let problem = |ask: Ask| match bench.begin("a", ask) {
            Err(EngineError::Invalid { field, problem }) => (field, problem),
            other => panic!("{other:?}"),
        };
        let ttl = |ttl| Ask {
            ttl: Some(ttl),
            ..Ask::default()
        };
        let most = seconds(5);
        assert_eq!(
            problem(ttl(seconds(6))),
            (Field::Ttl, AskProblem::TooLong { most })
        );
        assert_eq!(
            problem(ttl(Duration::MAX)),
            (Field::Ttl, AskProblem::TooLong { most })
        );
        let least = Duration::from_millis(100);
        assert_eq!(
            problem(ttl(Duration::ZERO)),
            (Field::Ttl, AskProblem::TooShort { least })
        );
        let most = seconds(3);
        assert_eq!(
            problem(wait(4)),
            (Field::Wait, AskProblem::TooLong { most })
        );
        let max_hold = |hold| Ask {
            max_hold: Some(hold),
            ..Ask::default()
        };
        let most = seconds(8);
        assert_eq!(
            problem(max_hold(seconds(9))),
            (Field::MaxHold, AskProblem::TooLong { most })
        );
        assert_eq!(
            problem(max_hold(Duration::ZERO)),
            (Field::MaxHold, AskProblem::TooShort { least })
        );
        let granted = bench.try_now("a", ttl(seconds(5))).unwrap();
        assert_eq!(granted.ttl.as_millis(), 5_000);
        assert_eq!(bench.slots(), 1);
    });
}

#[test]
fn keys_outside_of_the_policy_are_refused_with_its_patterns() {
    on_bench(
        "{backend: {memory: {}}, keys: {allow: [\"a/*\", \"b/**\"]}}",
        async |bench| {
            let refused = bench.begin("c", Ask::default()).unwrap_err();
            let EngineError::KeyNotAllowed { allowed, .. } = &refused else {
                panic!("{refused}");
            };
            assert_eq!(allowed, &["a/*", "b/**"]);
            let policy = bench.policy();
            assert!(bench.engine.inspect(&policy, &key("c")).await.is_err());
            let token = pawl_lock::FencingToken::MIN;
            assert!(bench.engine.fence(&policy, &key("c"), token).await.is_err());
            bench.grant("b/1/2");
        },
    );
}

#[test]
fn the_only_policy_needs_no_name() {
    on_bench("{backend: {memory: {}}}", async |bench| {
        let find = |text: &'static str| bench.engine.policy(PolicySelector::from(text));
        assert_eq!(find("-").unwrap().name().as_str(), "p");
        assert_eq!(find("p").unwrap().name().as_str(), "p");
        for unknown in ["q", "", "P", "a b"] {
            let Err(EngineError::UnknownPolicy { known, .. }) = find(unknown) else {
                panic!("{unknown}");
            };
            assert_eq!(known.len(), 1);
        }
        bench.apply(vec![
            settings("p", "{backend: {memory: {}}}"),
            settings("q", "{backend: {memory: {}}}"),
        ]);
        assert!(
            matches!(find("-"), Err(EngineError::AmbiguousPolicy { known }) if known.len() == 2)
        );
        bench.apply(vec![]);
        assert!(
            matches!(find("-"), Err(EngineError::AmbiguousPolicy { known }) if known.is_empty())
        );
    });
}

#[test]
fn an_answer_is_there_exactly_once() {
    on_bench("{backend: {memory: {}}}", async |bench| {
        let mut asked = bench.begin("a", Ask::default()).unwrap();
        assert!(now(&mut asked).unwrap().is_ok());
        assert_eq!(asked.ahead(), None);
        drop(asked);
        assert_eq!(
            bench.engine.state().leases.len(),
            1,
            "the caller has it now"
        );
    });
}
