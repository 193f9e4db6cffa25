//! A backend that is silent, failing, or slow; a process that slept.

use std::{sync::Arc, time::Duration};

use pawl_lock::{
    LossReason,
    backend::{Category, Outcome},
};

use super::bench::{Answer, Gate, now, on_bench, turns, wait};
use crate::{
    engine::{Ask, EngineError, LeaseError},
    metrics::Operation,
};

const SPEC: &str = "{backend: {memory: {}}, lease: {ttl: 3s, retain: 0s}}";

#[test]
fn silence_is_no_grant_and_is_compensated() {
    on_bench(SPEC, async |bench| {
        bench.script.set(Operation::Acquire, Answer::Swallow);
        let mut asked = bench.begin("a", Ask::default()).unwrap();
        bench.pass(Duration::from_millis(1_100)).await;
        let Some(Err(EngineError::Backend { error, .. })) = now(&mut asked) else {
            panic!("an answer that did not come in time is an error");
        };
        assert_eq!(
            (error.category(), error.outcome()),
            (Category::Timeout, Outcome::Unknown)
        );
        bench.pass_secs(1).await;
        assert!(bench.script.calls(Operation::Abandon) > 0);
        assert_eq!(
            bench.holders("a").await,
            0,
            "the hold that nobody knew of is gone"
        );
        bench.script.set(Operation::Acquire, Answer::Pass);
        bench.grant("a");
    });
}

#[test]
fn a_silent_backend_loses_the_lease_at_its_deadline_and_not_later() {
    on_bench(SPEC, async |bench| {
        let granted = bench.grant("a");
        bench.script.set_all(&Answer::Silence);
        let left = granted.deadline.left(bench.engine.clock().now());
        bench
            .pass(left.saturating_sub(Duration::from_millis(1)))
            .await;
        assert!(bench.engine.lease(&granted.lease_id).is_ok());
        bench.leap(Duration::from_millis(1));
        let lost = bench.engine.lease(&granted.lease_id);
        assert!(
            matches!(
                lost,
                Err(LeaseError::Lost {
                    reason: LossReason::Expired
                })
            ),
            "{lost:?}"
        );
        let released = bench.engine.release(&granted.lease_id, false).await;
        assert!(
            matches!(released, Err(LeaseError::Lost { .. })),
            "the caller must know"
        );
        let losses = bench.metric("pawl_leases_lost_total");
        let expired = r#"pawl_leases_lost_total{backend="memory",policy="p",reason="expired"} 1"#;
        assert!(losses.iter().any(|line| line == expired), "{losses:?}");
    });
}

#[test]
fn a_process_that_slept_says_lost_first() {
    on_bench(SPEC, async |bench| {
        let renewed = bench.grant("a").lease_id;
        let released = bench.grant("b").lease_id;
        let looked_at = bench.grant("c").lease_id;
        bench.leap(Duration::from_hours(1));
        let is_lost = |error| {
            matches!(
                error,
                Err(LeaseError::Lost {
                    reason: LossReason::Expired
                })
            )
        };
        assert!(is_lost(bench.engine.renew(&renewed, None).await.map(drop)));
        assert!(is_lost(bench.engine.release(&released, false).await));
        assert!(is_lost(bench.engine.lease(&looked_at).map(drop)));
        turns().await;
        assert!(
            is_lost(bench.engine.lease(&looked_at).map(drop)),
            "and never held again"
        );
    });
}

#[test]
fn a_grant_that_is_fetched_too_late_is_no_grant() {
    on_bench(SPEC, async |bench| {
        let mut asked = bench.begin("a", Ask::default()).unwrap();
        bench.leap(Duration::from_hours(1));
        let answer = now(&mut asked).unwrap();
        assert!(
            matches!(answer, Err(EngineError::LostWhileAcquiring { .. })),
            "{answer:?}"
        );
    });
}

#[test]
fn a_failing_backend_is_told_once_and_asked_with_a_backoff_and_heals_by_itself() {
    on_bench(SPEC, async |bench| {
        let down = Answer::Fail(Category::Connection, Outcome::NotApplied);
        bench.script.set_all(&down);
        let failed = bench.try_now("a", Ask::default()).unwrap_err();
        let EngineError::Backend { retry_after, .. } = &failed else {
            panic!("{failed}");
        };
        assert_eq!(*retry_after, Duration::from_secs(2));
        let before = bench.script.calls(Operation::Check);
        bench.pass_secs(2).await;
        let condition = |index: usize| bench.status()["policies"][0]["conditions"][index].clone();
        assert_eq!(condition(1)["type"], "BackendReady");
        assert_eq!(
            (&condition(1)["status"], &condition(1)["reason"]),
            (&"False".into(), &"Unreachable".into())
        );
        assert_eq!(condition(0)["status"], "True");
        assert!(
            bench.readiness.is_ready(),
            "a backend that is down makes no pod unready"
        );
        for _ in 0..100 {
            let _ = bench.try_now("a", Ask::default());
        }
        bench.pass_secs(60).await;
        let checks = bench.script.calls(Operation::Check) - before;
        assert!((3..=62).contains(&checks), "{checks} looks in a minute");

        bench.script.set_all(&Answer::Pass);
        bench.grant("a");
        bench.pass_secs(2).await;
        assert_eq!(
            condition(1)["status"],
            "True",
            "a call that works asks for a look"
        );
    });
}

#[test]
fn a_slow_answer_reaches_the_caller_that_waits_for_it() {
    on_bench(SPEC, async |bench| {
        let gate = Arc::<Gate>::default();
        bench
            .script
            .set(Operation::Acquire, Answer::Late(Arc::clone(&gate)));
        let engine = bench.engine.clone();
        let policy = bench.policy();
        let caller = tokio::task::spawn_local(async move {
            engine
                .acquire(&policy, super::bench::key("a"), wait(1))
                .await
        });
        turns().await;
        assert!(!caller.is_finished());
        gate.open();
        let granted = caller.await.unwrap().unwrap();
        assert_eq!(granted.grants.len(), 1);
    });
}

#[test]
fn every_kind_of_failure_is_counted() {
    on_bench(SPEC, async |bench| {
        for (category, outcome) in [
            (Category::Full, Outcome::NotApplied),
            (Category::Config, Outcome::NotApplied),
            (Category::Protocol, Outcome::Unknown),
        ] {
            bench
                .script
                .set(Operation::Acquire, Answer::Fail(category, outcome));
            let failed = bench
                .try_now(category.as_str(), Ask::default())
                .unwrap_err();
            assert_eq!(failed.backend(), Some(category));
            let line = format!(
                r#"pawl_backend_errors_total{{backend="memory",operation="acquire",policy="p",reason="{}"}} 1"#,
                category.as_str()
            );
            let errors = bench.metric("pawl_backend_errors_total");
            assert!(errors.contains(&line), "{errors:?}");
        }
    });
}
