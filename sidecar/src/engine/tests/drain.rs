//! The end: SIGTERM as the engine sees it.

use std::time::Duration;

use pawl_lock::LossReason;

use super::bench::{Answer, Bench, now, settings, turns, wait};
use crate::{
    engine::{Ask, EngineError, LeaseError, LeaseEvent, Limits},
    metrics::Operation,
};

fn bench(grace: Duration) -> Bench {
    let bench = Bench::new(Limits::default());
    bench.set_grace(grace);
    bench.apply(vec![settings(
        "p",
        "{backend: {memory: {}}, lease: {ttl: 30s}}",
    )]);
    bench
}

fn on<T: Future<Output = ()>>(bench: &Bench, test: impl FnOnce(Bench) -> T) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test(bench.clone())));
}

#[test]
fn everything_is_let_go_and_everybody_is_told() {
    on(&bench(Duration::ZERO), async |bench| {
        let engine = bench.start();
        let held = bench.grant("a");
        let mut events = bench.engine.subscribe(&held.lease_id).unwrap();
        let retained = bench.grant("b");
        bench
            .engine
            .release(&retained.lease_id, false)
            .await
            .unwrap();
        let mut waiter = bench.begin("a", wait(9)).unwrap();
        turns().await;
        bench.drain.start();
        turns().await;
        engine.await.unwrap().unwrap();
        assert!(matches!(now(&mut waiter), Some(Err(EngineError::Draining))));
        assert!(matches!(
            bench.begin("c", Ask::default()),
            Err(EngineError::Draining)
        ));
        let reason = LossReason::Draining;
        assert_eq!(events.next().await, Some(LeaseEvent::Lost { reason }));
        let told = bench.engine.release(&held.lease_id, false).await;
        assert!(
            matches!(
                told,
                Err(LeaseError::Lost {
                    reason: LossReason::Draining
                })
            ),
            "{told:?}"
        );
        assert_eq!(bench.holders("a").await + bench.holders("b").await, 0);
        assert!(!bench.readiness.is_ready());
        assert_eq!(bench.status()["isDraining"], true);
    });
}

#[test]
fn leases_have_the_time_that_they_are_given() {
    on(&bench(Duration::from_secs(5)), async |bench| {
        let engine = bench.start();
        let quick = bench.grant("quick");
        let slow = bench.grant("slow");
        let mut waiter = bench.begin("slow", wait(9)).unwrap();
        bench.drain.start();
        turns().await;
        assert!(matches!(now(&mut waiter), Some(Err(EngineError::Draining))));
        assert!(matches!(
            bench.begin("c", Ask::default()),
            Err(EngineError::Draining)
        ));
        bench.pass_secs(4).await;
        bench.engine.release(&quick.lease_id, false).await.unwrap();
        turns().await;
        assert_eq!(
            bench.holders("quick").await,
            0,
            "nothing is retained in a drain"
        );
        assert!(bench.engine.lease(&slow.lease_id).is_ok());
        assert!(!engine.is_finished());
        bench.pass(Duration::from_millis(1_100)).await;
        assert!(engine.is_finished());
        assert!(matches!(
            bench.engine.lease(&slow.lease_id),
            Err(LeaseError::Lost {
                reason: LossReason::Draining
            })
        ));
    });
}

#[test]
fn it_ends_as_soon_as_nothing_is_left() {
    on(&bench(Duration::from_hours(1)), async |bench| {
        let engine = bench.start();
        let lease = bench.grant("a").lease_id;
        bench.drain.start();
        turns().await;
        assert!(!engine.is_finished());
        bench.engine.release(&lease, false).await.unwrap();
        turns().await;
        assert!(engine.is_finished());
    });
}

#[test]
fn a_backend_that_does_not_answer_holds_the_end_up_for_five_seconds() {
    on(&bench(Duration::ZERO), async |bench| {
        let engine = bench.start();
        let _held = bench.grant("a");
        bench.script.set_all(&Answer::Silence);
        bench.drain.start();
        bench.pass(Duration::from_millis(4_900)).await;
        assert!(!engine.is_finished());
        assert!(bench.script.calls(Operation::Release) > 0);
        bench.pass(Duration::from_millis(200)).await;
        assert!(engine.is_finished());
        engine.await.unwrap().unwrap();
    });
}
