//! The webhook, called by the API server.

use std::time::Duration;

use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use pawl_operator::check::check;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::world::{Operator, World};

fn pod(name: &str, annotations: &Value) -> Pod {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"pawl.dev/inject": "true"}, "annotations": annotations},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "app:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    serde_json::from_value(pod).unwrap()
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

#[tokio::test]
async fn the_api_server_has_pods_injected_and_bad_ones_refused() {
    let world = World::new().await;
    let operator = world.running().await;
    world.server.namespace("shop").await;
    let restricted =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    namespaces
        .patch("shop", &PatchParams::default(), &Patch::Merge(restricted))
        .await
        .unwrap();
    let spec = json!({"backend": {"memory": {}}, "sidecar": {"auth": "Token"}});
    // Applied in one breath with the pod, as people do: the operator's watch may not have it yet.
    for round in 0..10 {
        let policy = format!("payments-{round}");
        world.policy("shop", &policy, &spec).await;
        let pod = pod(
            &format!("app-{round}"),
            &json!({"pawl.dev/policies": policy}),
        );
        let made = world
            .pods("shop")
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
        let made = serde_json::to_value(&made).unwrap();
        assert_eq!(
            made["spec"]["initContainers"][0]["name"], "pawl-sidecar",
            "{made:#}"
        );
        let app = made["spec"]["containers"][0].to_string();
        assert!(app.contains("PAWL_TOKEN_FILE"), "round {round}: {app}");
        assert_eq!(
            made["metadata"]["annotations"]["pawl.dev/injected"],
            env!("CARGO_PKG_VERSION")
        );
    }

    let refused = async |annotations: Value| {
        let answer = world
            .pods("shop")
            .create(&dry_run(), &pod("bad", &annotations))
            .await;
        answer.expect_err("it is refused").to_string()
    };
    let told = refused(json!({})).await;
    assert!(
        told.contains("inject.pawl.dev") && told.contains("pawl.dev/policies"),
        "{told}"
    );
    let told = refused(json!({"pawl.dev/policies": "payments", "pawl.dev/port": "80"})).await;
    assert!(
        told.contains("pawl.dev/port") && told.contains("1024"),
        "{told}"
    );
    let told = refused(json!({"pawl.dev/policies": "payments", "pawl.dev/polices": "x"})).await;
    assert!(told.contains("pawl.dev/polices"), "{told}");

    check(world.client.clone(), "shop", Duration::from_secs(20))
        .await
        .expect("the check passes");

    who_asked_for_a_lock_gets_none_without_the_webhook(&world, &operator).await;
    let metrics = operator.metrics().await;
    assert!(
        metrics["pawl_operator_admissions_total{result=\"patched\"}"] >= 10.0,
        "{metrics:?}"
    );
    assert!(
        metrics["pawl_operator_admissions_total{result=\"denied\"}"] >= 3.0,
        "{metrics:?}"
    );
}

/// And nobody else is held up.
async fn who_asked_for_a_lock_gets_none_without_the_webhook(world: &World, operator: &Operator) {
    operator.process.signal(Signal::STOP);
    let labelled = pod("late", &json!({"pawl.dev/policies": "payments-0"}));
    let refused = world
        .pods("shop")
        .create(&PostParams::default(), &labelled)
        .await;
    let refused = refused.expect_err("it is refused").to_string();
    assert!(refused.contains("failed calling webhook"), "{refused}");
    let mut other = labelled.clone();
    other.metadata.labels = None;
    world
        .pods("shop")
        .create(&PostParams::default(), &other)
        .await
        .expect("others are made");
    operator.process.signal(Signal::CONT);
}

/// A pod that ends goes on with reviews, on new connections too, until nodes have heard of it; meanwhile it is not ready.
#[tokio::test]
async fn a_pod_that_ends_reviews_until_nobody_sends_any() {
    const LINGER: Duration = Duration::from_secs(5);
    const SURELY: Duration = Duration::from_secs(4);
    let world = World::new().await;
    let operator = world.running().await;
    world.server.namespace("shop").await;
    let memory = json!({"backend": {"memory": {}}});
    world.policy("shop", "payments", &memory).await;
    let policies = json!({"pawl.dev/policies": "payments"});
    let (pods, dry_run, late) = (world.pods("shop"), dry_run(), pod("late", &policies));
    let start = tokio::time::Instant::now();
    operator.process.signal(Signal::TERM);
    let mut reviewed = 0;
    while start.elapsed() < SURELY {
        let fresh = TcpStream::connect(("127.0.0.1", operator.webhook)).await;
        fresh.expect("it is listened for new connections");
        let made = pods.create(&dry_run, &late).await;
        made.expect("it is reviewed");
        reviewed += 1;
        if start.elapsed() > Duration::from_secs(1) {
            let (status, _) = operator.ask("/readyz").await.expect("probes are answered");
            assert_eq!(status, 503);
        }
    }
    assert!(reviewed > 10, "{reviewed} reviews");
    while !operator.process.has_ended() {
        assert!(start.elapsed() < super::world::PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        start.elapsed() > LINGER,
        "it ended after {:?}",
        start.elapsed()
    );
}

/// What somebody resets is mended, and the pod stays ready.
#[tokio::test]
async fn a_bundle_that_was_reset_is_mended() {
    let world = World::new().await;
    let _operator = world.running().await;
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    let bundle = async || {
        let hooks = hooks.get("pawl-inject").await.unwrap().webhooks.unwrap();
        hooks[0]
            .client_config
            .ca_bundle
            .clone()
            .map(|bundle| bundle.0)
            .unwrap_or_default()
    };
    let before = bundle().await;
    assert!(String::from_utf8_lossy(&before).contains("BEGIN CERTIFICATE"));
    let reset =
        json!({"webhooks": [{"name": "inject.pawl.dev", "clientConfig": {"caBundle": null}}]});
    let params = PatchParams::default();
    hooks
        .patch("pawl-inject", &params, &Patch::Strategic(reset))
        .await
        .unwrap();
    let start = tokio::time::Instant::now();
    while bundle().await != before {
        assert!(start.elapsed() < super::world::PATIENCE, "never mended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check(world.client.clone(), "default", Duration::from_secs(20))
        .await
        .expect("it works again");
}
