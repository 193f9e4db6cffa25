//! Policies that come, change and go while locks are held.

use std::time::Duration;

use pawl_lock::LossReason;

use super::bench::{now, on_bench, settings, turns, wait};
use crate::engine::{Applied, Ask, EngineError, LeaseError, PolicySelector, SWITCH_TIMEOUT};

const MEMORY: &str = "{backend: {memory: {}}, lease: {ttl: 10s}}";
/// Another scope is another backend.
const ELSEWHERE: &str = "{backend: {memory: {}}, lease: {ttl: 10s}, keys: {prefix: elsewhere}}";

#[test]
fn new_terms_are_for_what_is_granted_from_now_on() {
    on_bench(MEMORY, async |bench| {
        let old = bench.grant("a");
        let shorter =
            "{backend: {memory: {}}, lease: {ttl: 10s, maxHold: 10s}, keys: {allow: [\"b\"]}}";
        assert_eq!(
            bench.apply(vec![settings("p", shorter)]),
            [Applied::Serving]
        );
        assert!(bench.engine.lease(&old.lease_id).is_ok());
        assert!(matches!(
            bench.begin("a", Ask::default()),
            Err(EngineError::KeyNotAllowed { .. })
        ));
        let new = bench.grant("b");
        bench.pass_secs(11).await;
        assert!(
            bench.engine.lease(&old.lease_id).is_ok(),
            "granted under the old terms"
        );
        assert!(matches!(
            bench.engine.lease(&new.lease_id),
            Err(LeaseError::Lost {
                reason: LossReason::MaxHold
            })
        ));
    });
}

#[test]
fn a_removed_policy_is_unknown_at_once_and_its_leases_live_on() {
    on_bench(MEMORY, async |bench| {
        let policy = bench.policy();
        let held = bench.grant("a");
        let retained = bench.grant("b");
        bench
            .engine
            .release(&retained.lease_id, false)
            .await
            .unwrap();
        let mut waiter = bench.begin("a", wait(9)).unwrap();
        bench.apply(vec![]);
        assert!(matches!(
            now(&mut waiter),
            Some(Err(EngineError::UnknownPolicy { .. }))
        ));
        assert!(bench.engine.policy(PolicySelector::Named("p")).is_err());
        let late = bench
            .engine
            .begin(&policy, super::bench::key("c"), Ask::default());
        assert!(matches!(late, Err(EngineError::UnknownPolicy { .. })));
        turns().await;
        assert_eq!(bench.holders("b").await, 0);
        bench.pass_secs(20).await;
        assert!(
            bench.engine.lease(&held.lease_id).is_ok(),
            "renewed all the same"
        );
        assert_eq!(bench.status()["policies"][0]["state"], "Removed");
        assert!(!bench.metric("pawl_lock").is_empty());
        bench.engine.release(&held.lease_id, false).await.unwrap();
        turns().await;
        assert_eq!(bench.status()["policies"].as_array().unwrap().len(), 0);
        let mut of_policies = bench.metric("pawl_");
        of_policies.retain(|line| line.contains("policy="));
        assert_eq!(of_policies, Vec::<String>::new(), "no series of it is left");
    });
}

#[test]
fn a_policy_that_comes_back_takes_its_leases_up_again() {
    on_bench(MEMORY, async |bench| {
        let held = bench.grant("a");
        bench.apply(vec![]);
        assert_eq!(bench.apply(vec![settings("p", MEMORY)]), [Applied::Serving]);
        assert!(bench.engine.lease(&held.lease_id).is_ok());
        bench.engine.release(&held.lease_id, false).await.unwrap();
        bench.grant("a");
    });
}

/// A change of the policy's times waits for no lease: those that run keep theirs, everything new has the new ones.
#[test]
fn another_ttl_is_used_at_once_beside_leases_that_run() {
    on_bench(MEMORY, async |bench| {
        let held = bench.grant("a");
        let longer = "{backend: {memory: {}}, lease: {ttl: 25s, maxTtl: 9m}}";
        assert_eq!(bench.apply(vec![settings("p", longer)]), [Applied::Serving]);
        assert!(bench.engine.lease(&held.lease_id).is_ok());
        let new = bench.grant("b");
        assert_eq!(new.ttl.as_duration(), Duration::from_secs(25));
        assert_eq!(held.ttl.as_duration(), Duration::from_secs(10));
    });
}

#[test]
fn another_backend_is_announced_drained_and_then_used() {
    on_bench(MEMORY, async |bench| {
        let held = bench.grant("a");
        let mut waiter = bench.begin("a", wait(9)).unwrap();
        assert_eq!(
            bench.apply(vec![settings("p", ELSEWHERE)]),
            [Applied::Switching]
        );
        assert!(matches!(
            now(&mut waiter),
            Some(Err(EngineError::PolicyDraining { .. }))
        ));
        assert!(matches!(
            bench.begin("b", Ask::default()),
            Err(EngineError::PolicyDraining { .. })
        ));
        assert_eq!(bench.status()["policies"][0]["state"], "Switching");
        bench.pass_secs(20).await;
        assert!(bench.engine.lease(&held.lease_id).is_ok());
        assert_eq!(bench.holders("a").await, 1);
        bench.engine.release(&held.lease_id, false).await.unwrap();
        turns().await;
        assert_eq!(bench.holders("a").await, 0);
        assert_eq!(bench.status()["policies"][0]["state"], "Serving");
        bench.grant("a");
        assert_eq!(bench.holders("a").await, 0, "it is on the other one");
        assert_eq!(
            bench.metric("pawl_locks_held"),
            [r#"pawl_locks_held{backend="memory",policy="p"} 1"#]
        );
    });
}

#[test]
fn leases_on_an_old_backend_have_a_minute() {
    on_bench(MEMORY, async |bench| {
        let held = bench.grant("a");
        bench.apply(vec![settings("p", ELSEWHERE)]);
        bench
            .pass(SWITCH_TIMEOUT.saturating_sub(Duration::from_secs(1)))
            .await;
        assert!(bench.engine.lease(&held.lease_id).is_ok());
        bench.pass_secs(2).await;
        let lost = bench.engine.lease(&held.lease_id);
        assert!(
            matches!(
                lost,
                Err(LeaseError::Lost {
                    reason: LossReason::PolicyRemoved
                })
            ),
            "{lost:?}"
        );
        turns().await;
        assert_eq!(bench.holders("a").await, 0);
        bench.grant("a");
    });
}

#[test]
fn a_change_that_is_taken_back_changes_nothing() {
    on_bench(MEMORY, async |bench| {
        let held = bench.grant("a");
        bench.apply(vec![settings("p", ELSEWHERE)]);
        assert_eq!(bench.apply(vec![settings("p", MEMORY)]), [Applied::Serving]);
        bench.pass(SWITCH_TIMEOUT + Duration::from_secs(1)).await;
        assert!(bench.engine.lease(&held.lease_id).is_ok());
        bench.grant("b");
        assert_eq!(bench.holders("b").await, 1);
    });
}

#[test]
fn a_backend_that_is_not_built_is_refused_or_the_last_good_one_kept() {
    const ETCD: &str = "{backend: {etcd: {endpoints: [\"http://etcd:2379\"]}}}";
    on_bench(MEMORY, async |bench| {
        let applied = bench.apply(vec![settings("p", ETCD), settings("q", ETCD)]);
        let [Applied::Kept(kept), Applied::Refused(refused)] = &applied[..] else {
            panic!("{applied:?}");
        };
        assert_eq!(
            (kept.reason, refused.reason),
            ("BackendNotBuilt", "BackendNotBuilt")
        );
        bench.grant("a");
        let q = bench.engine.policy(PolicySelector::Named("q")).unwrap();
        let refused = bench
            .engine
            .begin(&q, super::bench::key("a"), Ask::default());
        assert!(
            matches!(
                refused,
                Err(EngineError::PolicyRefused {
                    reason: "BackendNotBuilt",
                    ..
                })
            ),
            "{refused:?}"
        );
        let status = &bench.status()["policies"][1];
        assert_eq!(
            (&status["name"], &status["state"]),
            (&"q".into(), &"Refused".into())
        );
        assert_eq!(status["backend"], "etcd");
        assert_eq!(
            bench.apply(vec![settings("q", MEMORY)]),
            [Applied::Serving],
            "and heals"
        );
    });
}

#[test]
fn the_minute_counts_from_the_change_that_stands() {
    on_bench(MEMORY, async |bench| {
        let held = bench.grant("a");
        bench.apply(vec![settings("p", ELSEWHERE)]);
        bench.pass_secs(30).await;
        bench.apply(vec![settings("p", MEMORY)]);
        bench.apply(vec![settings("p", ELSEWHERE)]);
        bench.pass_secs(40).await;
        assert!(bench.engine.lease(&held.lease_id).is_ok());
        bench.pass_secs(25).await;
        assert!(bench.engine.lease(&held.lease_id).is_err());
    });
}
