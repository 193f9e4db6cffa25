//! The life of one lease.

use std::time::Duration;

use pawl_lock::{
    LossReason,
    backend::{Category, FenceVerdict, Outcome},
    lease::{Mode, Renew},
};

use super::bench::{Answer, key, now, on_bench, turns, wait};
use crate::{
    engine::{Ask, EngineError, LeaseError, LeaseEvent, LeaseId, Limit},
    metrics::Operation,
};

const SPEC: &str = "{backend: {memory: {}}, lease: {ttl: 3s, maxTtl: 9s, retain: 1s}}";

#[test]
fn a_free_key_is_granted_at_the_first_poll_and_the_next_one_without_the_backend() {
    on_bench(SPEC, async |bench| {
        let first = bench.grant("a");
        assert_eq!(first.grants[0].key, key("a"));
        assert_eq!(first.waited, Duration::ZERO);
        assert_eq!(first.ttl.as_millis(), 3_000);
        let released = now(&mut Box::pin(bench.engine.release(&first.lease_id, false)));
        assert!(matches!(released, Some(Ok(()))), "{released:?}");
        let second = bench.grant("a");
        assert!(second.grants[0].token > first.grants[0].token);
        assert_eq!(
            bench.script.calls(Operation::Acquire),
            1,
            "the hold was retained"
        );
        assert_eq!(bench.script.calls(Operation::Release), 0);
    });
}

#[test]
fn a_held_key_is_refused_to_a_try_and_handed_to_the_waiter_on_release() {
    on_bench(SPEC, async |bench| {
        let first = bench.grant("a");
        let refused = bench.try_now("a", Ask::default()).unwrap_err();
        assert!(matches!(refused, EngineError::Held { .. }), "{refused}");
        let mut waiter = bench.begin("a", wait(5)).unwrap();
        assert!(now(&mut waiter).is_none());
        assert_eq!(waiter.ahead(), Some(0));
        bench.pass_secs(1).await;
        bench.engine.release(&first.lease_id, false).await.unwrap();
        let second = waiter.await.unwrap();
        assert!(second.grants[0].token > first.grants[0].token);
        assert_eq!(second.waited, Duration::from_secs(1));
    });
}

#[test]
fn a_wait_that_is_over_is_told_who_holds_it() {
    on_bench(SPEC, async |bench| {
        let _held = bench.grant("a");
        let mut waiter = bench.begin("a", wait(2)).unwrap();
        bench.pass(Duration::from_millis(1_900)).await;
        assert!(now(&mut waiter).is_none());
        bench.pass(Duration::from_millis(200)).await;
        let Some(Err(EngineError::Held { key: held, .. })) = now(&mut waiter) else {
            panic!("the wait is not over");
        };
        assert_eq!(held, key("a"));
        assert_eq!(waiter_count(&bench), 0);
    });
}

fn waiter_count(bench: &super::bench::Bench) -> u64 {
    bench.engine.overview(&bench.policy()).waiter_count
}

#[test]
fn an_auto_renewed_lease_lives_on_and_a_manual_one_does_not() {
    on_bench(SPEC, async |bench| {
        let auto = bench.grant("auto");
        let manual = Ask {
            renew: Some(Renew::Manual),
            ..Ask::default()
        };
        let manual = bench.try_now("manual", manual).unwrap();
        bench.pass_secs(2).await;
        let info = bench.engine.renew(&manual.lease_id, None).await.unwrap();
        assert!(
            info.expires_in > Duration::from_millis(2_900),
            "{:?}",
            info.expires_in
        );
        bench.pass_secs(4).await;
        assert!(bench.engine.lease(&auto.lease_id).is_ok());
        let lost = bench.engine.lease(&manual.lease_id).unwrap_err();
        let LeaseError::Lost { reason } = lost else {
            panic!("{lost}");
        };
        assert_eq!(reason, LossReason::NotRenewed);
    });
}

#[test]
fn a_renewal_takes_a_new_ttl_within_the_policys_bounds() {
    on_bench(SPEC, async |bench| {
        let lease = bench.grant("a").lease_id;
        let info = bench
            .engine
            .renew(&lease, Some(Duration::from_secs(9)))
            .await
            .unwrap();
        assert_eq!(info.ttl.as_millis(), 9_000);
        assert!(
            info.expires_in > Duration::from_millis(8_800),
            "{:?}",
            info.expires_in
        );
        for seconds in [0, 10] {
            let refused = bench
                .engine
                .renew(&lease, Some(Duration::from_secs(seconds)))
                .await;
            assert!(
                matches!(refused, Err(LeaseError::Invalid { .. })),
                "{refused:?}"
            );
        }
        assert!(bench.engine.lease(&lease).is_ok());
    });
}

#[test]
fn a_renewal_that_fails_leaves_the_lease_to_its_deadline() {
    on_bench(SPEC, async |bench| {
        let lease = bench.grant("a").lease_id;
        let down = Answer::Fail(Category::Connection, Outcome::NotApplied);
        bench.script.set(Operation::Renew, down);
        let failed = bench
            .engine
            .renew(&lease, Some(Duration::from_secs(9)))
            .await;
        assert!(
            matches!(failed, Err(LeaseError::Backend { .. })),
            "{failed:?}"
        );
        assert!(bench.engine.lease(&lease).is_ok());
    });
}

#[test]
fn renewals_under_way_are_bounded() {
    on_bench(SPEC, async |bench| {
        let lease = bench.grant("a").lease_id;
        bench.script.set(Operation::Renew, Answer::Silence);
        let longer = Some(Duration::from_secs(9));
        let mut renewals: Vec<_> = (0..64)
            .map(|_| Box::pin(bench.engine.renew(&lease, longer)))
            .collect();
        for renewal in &mut renewals {
            assert!(now(renewal).is_none());
        }
        let refused = now(&mut Box::pin(bench.engine.renew(&lease, longer)));
        assert!(
            matches!(
                refused,
                Some(Err(LeaseError::Limit {
                    limit: Limit::Renewals,
                    ..
                }))
            ),
            "{refused:?}"
        );
    });
}

#[test]
fn the_end_of_a_lease_is_remembered() {
    on_bench(SPEC, async |bench| {
        let lease = bench.grant("a").lease_id;
        bench.engine.release(&lease, false).await.unwrap();
        let twice = bench.engine.release(&lease, false).await;
        assert!(matches!(twice, Err(LeaseError::Released)), "{twice:?}");
        assert!(matches!(
            bench.engine.lease(&lease),
            Err(LeaseError::Released)
        ));
        assert!(matches!(
            bench.engine.renew(&lease, None).await,
            Err(LeaseError::Released)
        ));
        assert!(matches!(
            bench.engine.subscribe(&lease),
            Err(LeaseError::Released)
        ));
        let forged = LeaseId::random();
        assert!(matches!(
            bench.engine.lease(&forged),
            Err(LeaseError::Unknown)
        ));
        assert!(matches!(
            bench.engine.release(&forged, true).await,
            Err(LeaseError::Unknown)
        ));
    });
}

#[test]
fn events_tell_renewals_doubt_and_loss_and_then_end() {
    on_bench(SPEC, async |bench| {
        let lease = bench.grant("a").lease_id;
        let mut events = bench.engine.subscribe(&lease).unwrap();
        bench.pass(Duration::from_millis(1_200)).await;
        assert!(matches!(
            now(&mut Box::pin(events.next())),
            Some(Some(LeaseEvent::Renewed { .. }))
        ));
        bench
            .script
            .set_all(&Answer::Fail(Category::Connection, Outcome::NotApplied));
        bench.pass(Duration::from_millis(1_500)).await;
        assert!(matches!(
            now(&mut Box::pin(events.next())),
            Some(Some(LeaseEvent::Uncertain { .. }))
        ));
        assert!(bench.engine.lease(&lease).unwrap().is_uncertain);
        bench.pass_secs(3).await;
        let lost = events.next().await;
        assert!(matches!(lost, Some(LeaseEvent::Lost { .. })), "{lost:?}");
        assert_eq!(events.next().await, None);
    });
}

#[test]
fn a_release_is_the_last_event() {
    on_bench(SPEC, async |bench| {
        let lease = bench.grant("a").lease_id;
        let mut events = bench.engine.subscribe(&lease).unwrap();
        bench.engine.give_up(&lease);
        assert_eq!(events.next().await, Some(LeaseEvent::Released));
        assert_eq!(events.next().await, None);
    });
}

#[test]
fn an_idle_lease_ends_unless_a_stream_is_open() {
    let spec = "{backend: {memory: {}}, lease: {ttl: 2s, idle: 4s}}";
    on_bench(spec, async |bench| {
        let idle = bench.grant("idle").lease_id;
        let attached = bench.grant("attached").lease_id;
        let guard = bench.engine.attach(&attached).unwrap();
        let second = bench.engine.attach(&attached).unwrap();
        bench.pass_secs(8).await;
        let lost = bench.engine.lease(&idle);
        assert!(
            matches!(
                lost,
                Err(LeaseError::Lost {
                    reason: LossReason::Idle
                })
            ),
            "{lost:?}"
        );
        drop(guard);
        bench.pass_secs(8).await;
        drop(second);
        bench.pass_secs(1).await;
        let state = bench.engine.state().leases.contains_key(&attached);
        assert!(state, "a stream was open until a second ago");
        bench.pass_secs(7).await;
        let lost = bench.engine.lease(&attached);
        assert!(
            matches!(
                lost,
                Err(LeaseError::Lost {
                    reason: LossReason::Idle
                })
            ),
            "{lost:?}"
        );
    });
}

#[test]
fn a_look_at_the_events_does_not_end_the_attachment_of_the_acquiring_stream() {
    let spec = "{backend: {memory: {}}, lease: {ttl: 2s, idle: 4s}}";
    on_bench(spec, async |bench| {
        let ask = Ask {
            attached: true,
            ..Ask::default()
        };
        let stream = bench.try_now("a", ask).unwrap().lease_id;
        drop(bench.engine.attach(&stream).unwrap());
        bench.pass_secs(10).await;
        assert!(bench.engine.lease(&stream).is_ok());
    });
}

#[test]
fn shared_leases_live_side_by_side_and_keep_an_exclusive_one_out() {
    on_bench(SPEC, async |bench| {
        let shared = Ask {
            mode: Mode::Shared,
            ..Ask::default()
        };
        let first = bench.try_now("a", shared.clone()).unwrap();
        let second = bench.try_now("a", shared).unwrap();
        assert_ne!(first.grants[0].token, second.grants[0].token);
        assert!(bench.try_now("a", Ask::default()).is_err());
        let info = bench
            .engine
            .inspect(&bench.policy(), &key("a"))
            .await
            .unwrap();
        assert!(info.is_local);
        assert_eq!(info.holders.len(), 2);
        assert!(
            info.holders
                .iter()
                .all(|holder| holder.owner.as_str() == "this-pod")
        );
    });
}

#[test]
fn a_confirmed_release_waits_for_the_backend() {
    on_bench(
        "{backend: {memory: {}}, lease: {retain: 0s}}",
        async |bench| {
            let gate = std::sync::Arc::<super::bench::Gate>::default();
            bench
                .script
                .set(Operation::Release, Answer::Late(gate.clone()));
            let lease = bench.grant("a").lease_id;
            let mut release = Box::pin(bench.engine.release(&lease, true));
            assert!(now(&mut release).is_none());
            turns().await;
            assert!(now(&mut release).is_none());
            assert!(matches!(
                bench.engine.lease(&lease),
                Err(LeaseError::Released)
            ));
            gate.open();
            release.await.unwrap();
            assert_eq!(bench.holders("a").await, 0);
        },
    );
}

#[test]
fn a_fence_knows_the_newest_token() {
    on_bench(SPEC, async |bench| {
        let policy = bench.policy();
        let old = bench.grant("a");
        bench.engine.release(&old.lease_id, false).await.unwrap();
        let new = bench.grant("a");
        let fence = async |token| bench.engine.fence(&policy, &key("a"), token).await.unwrap();
        assert_eq!(fence(new.grants[0].token).await, FenceVerdict::Newest);
        assert_eq!(fence(new.grants[0].token).await, FenceVerdict::Newest);
        let highest = new.grants[0].token;
        assert_eq!(
            fence(old.grants[0].token).await,
            FenceVerdict::Stale { highest }
        );
        let rejections = bench.metric("pawl_fence_rejections_total");
        assert_eq!(
            rejections,
            [r#"pawl_fence_rejections_total{backend="memory",policy="p"} 1"#]
        );
    });
}
