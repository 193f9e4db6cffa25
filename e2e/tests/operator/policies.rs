//! A policy reaches the sidecars, and what they say reaches its status.

use std::time::Duration;

use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    node::Node,
    world::{PATIENCE, World, condition},
};

/// The claim for a change of a policy is 5 s; tests run side by side on a crowded machine. Without the touch of the pods it
/// would never arrive here.
const AT_ONCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_policy_follows_its_whole_life() {
    let world = World::new().await;
    let _operator = world.running().await;
    let mut node = Node::new(&world, "shop").await;

    let spec = json!({"backend": {"memory": {}}, "lease": {"ttl": "10s"}});
    world.policy("shop", "payments", &spec).await;
    let (status, _) = world
        .until_policy("shop", "payments", "accepted", |status| {
            condition(status, "Accepted") == "True/Valid"
        })
        .await;
    assert_eq!(condition(&status, "Propagated"), "True/NoPods");
    assert_eq!(condition(&status, "BackendReady"), "Unknown/Unknown");
    assert_eq!(condition(&status, "Ready"), "Unknown/Unknown");
    assert_eq!(status["backend"], "memory");

    node.run("app-1", "payments").await;
    world.policy("shop", "orders", &spec).await;
    node.run("app-2", "payments,orders").await;
    let (status, _) = world
        .until_policy("shop", "payments", "ready", |status| {
            condition(status, "Ready") == "True/Ready" && status["pods"]["bound"] == 2
        })
        .await;
    assert_eq!(
        status["pods"],
        json!({"bound": 2, "current": 2, "ready": 2})
    );
    assert_eq!(condition(&status, "Propagated"), "True/UpToDate");

    // An edit.
    let start = Instant::now();
    let spec = json!({"backend": {"memory": {}}, "lease": {"ttl": "20s"}});
    world.policy("shop", "payments", &spec).await;
    for pod in &node.pods {
        pod.until_it_serves("payments", Some(2)).await;
    }
    let served = start.elapsed();
    world
        .until_policy("shop", "payments", "propagated", |status| {
            status["observedGeneration"] == 2 && condition(status, "Ready") == "True/Ready"
        })
        .await;
    assert!(
        start.elapsed() < AT_ONCE,
        "served after {served:?}, told after {:?}",
        start.elapsed()
    );

    // Another policy, of one of them.
    world
        .until_policy("shop", "orders", "ready", |status| {
            condition(status, "Ready") == "True/Ready" && status["pods"]["bound"] == 1
        })
        .await;

    a_pod_without_a_sidecar_is_told(&world).await;

    // A sidecar that is gone.
    let pods = world.pods("shop");
    let now = DeleteParams::default().grace_period(0);
    node.pods[1].sidecar.kill();
    world
        .until_policy("shop", "payments", "behind", |status| {
            condition(status, "Propagated") == "False/Pending" && status["pods"]["current"] == 1
        })
        .await;
    pods.delete("app-2", &now).await.unwrap();
    world
        .until_policy("shop", "payments", "ready again", |status| {
            condition(status, "Ready") == "True/Ready" && status["pods"]["bound"] == 1
        })
        .await;

    it_was_told(&world).await;
    removal_reaches_the_sidecar(&world, &node).await;
}

async fn a_pod_without_a_sidecar_is_told(world: &World) {
    let pods = world.pods("shop");
    let bare = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "bare", "annotations": {"pawl.dev/policies": "payments"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    let bare = serde_json::from_value(bare).unwrap();
    pods.create(&PostParams::default(), &bare).await.unwrap();
    let labelled = json!({"metadata": {"labels": {"pawl.dev/inject": "true"}}});
    pods.patch("bare", &PatchParams::default(), &Patch::Merge(labelled))
        .await
        .unwrap();
    let (status, _) = world
        .until_policy("shop", "payments", "missing a sidecar", |status| {
            condition(status, "Propagated") == "False/SidecarMissing"
        })
        .await;
    assert!(
        status.to_string().contains("without a sidecar: bare"),
        "{status}"
    );
    let now = DeleteParams::default().grace_period(0);
    pods.delete("bare", &now).await.unwrap();
}

/// Events on transitions, each once.
async fn it_was_told(world: &World) {
    let events: Api<Event> = Api::namespaced(world.client.clone(), "shop");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told = |reason: &str| {
        let of = events.iter().filter(|event| {
            let regarding = event.regarding.as_ref();
            event.reason.as_deref() == Some(reason)
                && regarding.and_then(|object| object.name.as_deref()) == Some("payments")
        });
        of.count()
    };
    assert_eq!(told("Valid"), 1);
    assert_eq!(told("Connected"), 1);
    assert_eq!(told("SidecarMissing"), 1);
    assert_eq!(told("Pending"), 0, "that is no news");
}

/// A deleted policy takes its ConfigMap along (the garbage collector is the test), and the sidecar hears of it at once.
async fn removal_reaches_the_sidecar(world: &World, node: &Node) {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "shop");
    let policy = world.policies("shop").get("payments").await.unwrap();
    let map = maps.get("pawl-policy-payments").await.unwrap();
    let owners = map.metadata.owner_references.unwrap();
    assert_eq!(Some(&owners[0].uid), policy.metadata.uid.as_ref());
    assert_eq!(policy.metadata.finalizers, None);

    let now = DeleteParams::default();
    world
        .policies("shop")
        .delete("payments", &now)
        .await
        .unwrap();
    maps.delete("pawl-policy-payments", &now).await.unwrap();
    node.pods[0].until_it_serves("payments", None).await;
    sleep(Duration::from_millis(500)).await;
    assert!(
        maps.get_opt("pawl-policy-payments")
            .await
            .unwrap()
            .is_none(),
        "it came back"
    );
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone_and_told() {
    let world = World::new().await;
    let _operator = world.running().await;
    world.server.namespace("shop").await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "shop");
    let foreign = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "pawl-policy-payments"}, "data": {"mine": "yes"},
    });
    let foreign = serde_json::from_value(foreign).unwrap();
    maps.create(&PostParams::default(), &foreign).await.unwrap();
    let spec = json!({"backend": {"memory": {}}});
    world.policy("shop", "payments", &spec).await;
    world.policy("shop", "orders", &spec).await;
    let (status, _) = world
        .until_policy("shop", "payments", "in conflict", |status| {
            condition(status, "Accepted") == "False/Conflict"
        })
        .await;
    assert!(
        status.to_string().contains("was not made by the operator"),
        "{status}"
    );
    world
        .until_policy("shop", "orders", "accepted", |status| {
            condition(status, "Accepted") == "True/Valid"
        })
        .await;
    let there = maps.get("pawl-policy-payments").await.unwrap();
    assert_eq!(there.data.unwrap()["mine"], "yes");

    // Out of the way, and a change that has the operator look again.
    maps.delete("pawl-policy-payments", &DeleteParams::default())
        .await
        .unwrap();
    let spec = json!({"backend": {"memory": {}}, "lease": {"ttl": "20s"}});
    world.policy("shop", "payments", &spec).await;
    world
        .until_policy("shop", "payments", "accepted", |status| {
            condition(status, "Accepted") == "True/Valid"
        })
        .await;

    // Somebody edits what is ours: it is put right.
    let edit = json!({"data": {"orders.yaml": "nonsense"}});
    let ours = "pawl-policy-orders";
    maps.patch(ours, &PatchParams::default(), &Patch::Merge(edit))
        .await
        .unwrap();
    let start = Instant::now();
    loop {
        let data = maps.get(ours).await.unwrap().data.unwrap_or_default();
        if data["orders.yaml"].contains("LockPolicy") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "never put right: {data:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
