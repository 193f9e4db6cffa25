//! One writer at any time.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::world::{NAMESPACE, Operator, PATIENCE, World, condition};

async fn reconciles(operator: &Operator) -> f64 {
    let metrics = operator.metrics().await;
    metrics
        .get("pawl_operator_reconcile_seconds_count{result=\"ok\"}")
        .copied()
        .unwrap_or_default()
}

/// A policy is written and its status comes.
async fn works(world: &World, name: &str) {
    world
        .policy("shop", name, &json!({"backend": {"memory": {}}}))
        .await;
    world
        .until_policy("shop", name, "accepted", |status| {
            condition(status, "Accepted") == "True/Valid"
        })
        .await;
}

#[tokio::test]
async fn a_paused_leader_is_succeeded_and_writes_no_more() {
    let world = World::new().await;
    world.server.namespace("shop").await;
    let first = world.operator("pawl-operator-a");
    first.ready().await;
    first.until_it_leads().await;
    let second = world.operator("pawl-operator-b");
    second.ready().await;
    assert!(!second.leads().await);
    works(&world, "one").await;

    first.process.signal(Signal::STOP);
    let paused = Instant::now();
    second.until_it_leads().await;
    let waited = paused.elapsed();
    assert!(
        waited > Duration::from_secs(8),
        "it took over after {waited:?}"
    );
    assert!(waited < PATIENCE, "it took over after {waited:?}");
    works(&world, "two").await;

    // Wakes with work in its queues, and believes nothing.
    world
        .policy("shop", "three", &json!({"backend": {"memory": {}}}))
        .await;
    first.process.signal(Signal::CONT);
    works(&world, "four").await;
    let start = Instant::now();
    while first.leads().await {
        assert!(
            start.elapsed() < PATIENCE,
            "two lead: {}",
            first.process.log()
        );
        sleep(Duration::from_millis(20)).await;
    }
    let before = reconciles(&first).await;
    works(&world, "five").await;
    assert_eq!(
        reconciles(&first).await.to_bits(),
        before.to_bits(),
        "it wrote while another one led"
    );
    assert!(second.leads().await);

    // A leader that ends lets go at once.
    let start = Instant::now();
    let succeeds = async {
        first.until_it_leads().await;
        start.elapsed()
    };
    let (ended, succeeded) = tokio::join!(second.stopped(), succeeds);
    assert!(ended < Duration::from_secs(10), "it ended after {ended:?}");
    assert!(
        succeeded < Duration::from_secs(6),
        "it took over after {succeeded:?}"
    );
    works(&world, "six").await;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), NAMESPACE);
    let spec = leases.get("pawl-operator").await.unwrap().spec.unwrap();
    assert!(
        spec.holder_identity
            .unwrap()
            .starts_with("pawl-operator-a_")
    );
    assert!(spec.lease_transitions.unwrap() >= 2);
}
