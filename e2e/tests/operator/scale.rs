//! Many policies and pods against one operator. What it takes is printed.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    node::Node,
    world::{PATIENCE, World, condition},
};

const POLICIES: usize = 500;
const PODS: usize = 200;
/// How many of the pods have the policy that is changed.
const CHANGED: usize = 50;
/// The claim is 5 s; tests run side by side on a crowded machine, so what it took is printed.
const AT_ONCE: Duration = Duration::from_secs(20);
/// The claim for a release build; a debug build is larger by itself.
const MEMORY: f64 = 30e6;
const QUIET: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_policies_and_pods() {
    let world = World::new().await;
    let operator = world.running().await;
    operator.until_it_leads().await;
    let mut node = Node::new(&world, "shop").await;
    let start = Instant::now();
    let spec = json!({"backend": {"memory": {}}, "keys": {"allow": ["account/*", "order/*"]}});
    let names: Vec<_> = (0..POLICIES).map(|n| format!("policy-{n}")).collect();
    stream::iter(&names)
        .for_each_concurrent(16, async |name| {
            world.policy("shop", name, &spec).await;
        })
        .await;
    let accepted = async || {
        let policies = world
            .policies("shop")
            .list(&ListParams::default())
            .await
            .unwrap();
        let is_accepted = |policy: &&pawl_crds::LockPolicy| {
            let status = serde_json::to_value(&policy.status).unwrap();
            condition(&status, "Accepted") == "True/Valid"
        };
        policies.items.iter().filter(is_accepted).count()
    };
    while accepted().await < POLICIES {
        assert!(
            start.elapsed() < PATIENCE * 2,
            "{} accepted",
            accepted().await
        );
        sleep(Duration::from_millis(200)).await;
    }
    println!("{POLICIES} policies accepted after {:?}", start.elapsed());

    let start = Instant::now();
    for n in 0..PODS {
        let policy = if n < CHANGED { 0 } else { n };
        node.run(&format!("app-{n}"), &format!("policy-{policy}"))
            .await;
    }
    println!("{PODS} pods made after {:?}", start.elapsed());
    let all = |bound: usize| {
        move |status: &serde_json::Value| {
            condition(status, "Ready") == "True/Ready" && status["pods"]["current"] == bound
        }
    };
    world
        .until_policy("shop", "policy-0", "ready everywhere", all(CHANGED))
        .await;
    let last = format!("policy-{}", PODS - 1);
    world.until_policy("shop", &last, "ready", all(1)).await;

    // A change reaches every one of the sidecars.
    let start = Instant::now();
    let changed = json!({"spec": {"lease": {"ttl": "20s"}}});
    let params = PatchParams::default();
    world
        .policies("shop")
        .patch("policy-0", &params, &Patch::Merge(changed))
        .await
        .unwrap();
    stream::iter(&node.pods[..CHANGED])
        .for_each_concurrent(8, |pod| pod.until_it_serves("policy-0", Some(2)))
        .await;
    let served = start.elapsed();
    world
        .until_policy("shop", "policy-0", "propagated", |status| {
            status["observedGeneration"] == 2 && all(CHANGED)(status)
        })
        .await;
    println!(
        "a change served by {CHANGED} sidecars after {served:?}, told after {:?}",
        start.elapsed()
    );
    assert!(served < AT_ONCE, "{served:?}");

    // Nothing happens: nothing is written.
    sleep(Duration::from_secs(3)).await;
    let before = writes(&world).await;
    sleep(QUIET).await;
    let after = writes(&world).await;
    let written: Vec<_> = after
        .iter()
        .filter(|(name, count)| before.get(*name) != Some(*count))
        .collect();
    println!("written in {QUIET:?} without a reason: {written:?}");
    assert!(written.is_empty(), "{written:?}");

    let resident = operator.resident().await;
    println!(
        "operator with {POLICIES} policies and {PODS} pods: {:.1} MB resident",
        resident / 1e6
    );
    if !cfg!(debug_assertions) {
        assert!(resident <= MEMORY, "{resident} bytes");
    }
    let metrics = operator.metrics().await;
    println!(
        "reconciles: {}, processor time {} s",
        metrics["pawl_operator_reconcile_seconds_count{result=\"ok\"}"],
        metrics["process_cpu_seconds_total"]
    );
}

/// How often the API server was written to, by verb and resource, but for Leases and what tests and API server do themselves.
async fn writes(world: &World) -> BTreeMap<String, u64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = world.client.request_text(request).await.unwrap();
    let mut counts = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
    {
        let writes = ["PUT", "POST", "PATCH", "DELETE", "APPLY"];
        let is_write = writes
            .iter()
            .any(|verb| line.contains(&format!("verb=\"{verb}\"")));
        let ours = [
            "lockpolicies",
            "configmaps",
            "pods",
            "events",
            "mutatingwebhookconfigurations",
        ];
        let Some(resource) = ours
            .iter()
            .find(|name| line.contains(&format!("resource=\"{name}\"")))
        else {
            continue;
        };
        if is_write && let Some((_, count)) = line.rsplit_once(' ') {
            let count = count.parse::<f64>().unwrap_or_default();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter"
            )]
            let count = count as u64;
            *counts.entry((*resource).to_owned()).or_default() += count;
        }
    }
    counts
}
