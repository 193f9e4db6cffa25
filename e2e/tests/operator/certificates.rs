//! Rotation under load: the API server calls the webhook while its certificate changes.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use pawl_crds::LockPolicy;
use pawl_kit::{admin::Readiness, clock::Clock};
use pawl_operator::{
    certs::{Certs, Own, Source, Timing},
    inject::{self, Policies, PullPolicy, Webhook},
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::world::{NAMESPACE, PATIENCE, World};

/// How many rotations, and reviews a second meanwhile.
const ROTATIONS: usize = 3;
const RATE: u32 = 50;

/// One policy, by every name.
struct Same(Arc<LockPolicy>);

impl Policies for Same {
    fn get(&self, _: &str, _: &str) -> Option<Arc<LockPolicy>> {
        Some(Arc::clone(&self.0))
    }
}

fn pod() -> Pod {
    let pod = json!({
        "metadata": {
            "generateName": "app-", "labels": {"pawl.dev/inject": "true"},
            "annotations": {"pawl.dev/policies": "payments"},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn expiry(registry: &Registry) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let line =
        lines.find(|line| line.starts_with("pawl_operator_certificate_expiry_timestamp_seconds"));
    line.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_review_fails_while_the_certificate_is_rotated() {
    let world = World::new().await;
    let (readiness, registry) = (Readiness::new(), Registry::new());
    let own = Own {
        client: world.client.clone(),
        configuration: "pawl-inject".to_owned(),
        service: "pawl-webhook".to_owned(),
        namespace: NAMESPACE.to_owned(),
        pod: "pawl-operator-a".to_owned(),
        timing: Timing {
            lifetime: Duration::from_secs(15),
            start: Duration::from_secs(2),
            settle: Duration::from_secs(2),
            look: Duration::from_secs(1),
        },
    };
    let certs = Certs::new(Source::Own(own), Clock::system(), &readiness, &registry).unwrap();
    let tls = inject::server_config(certs.resolver());
    let policy = json!({
        "apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy", "metadata": {"name": "payments"},
        "spec": {"backend": {"memory": {}}},
    });
    let policy = serde_json::from_value(policy).unwrap();
    let config = inject::Config {
        image: "pawl-sidecar:test".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        version: "0.0.0".to_owned(),
        policies: Arc::new(Same(Arc::new(policy))),
    };
    let webhook = Webhook::new(config, &registry).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.route_to(listener.local_addr().unwrap().port()).await;
    let mut servers = JoinSet::new();
    servers.spawn(certs.run());
    servers.spawn(webhook.serve(listener, tls, std::future::pending()));
    let start = Instant::now();
    while !readiness.is_ready() {
        assert!(start.elapsed() < PATIENCE, "never ready");
        sleep(Duration::from_millis(20)).await;
    }

    // A call that meets a connection that is there says nothing about certificates, so the API server's are ended by its
    // own limit now and then; new handshakes are what is counted on below.
    let pods = world.pods("default");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut reviews = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut shown, mut rotations, mut done) = (expiry(&registry), 0, 0_u32);
    let start = Instant::now();
    while rotations < ROTATIONS {
        assert!(start.elapsed() < PATIENCE * 2, "{rotations} rotations");
        ticks.tick().await;
        let (pods, dry_run) = (pods.clone(), dry_run.clone());
        reviews.spawn(async move { pods.create(&dry_run, &pod()).await });
        while let Some(review) = reviews.try_join_next() {
            review.unwrap().expect("no review fails");
            done += 1;
        }
        let now = expiry(&registry);
        if now != shown {
            shown = now;
            rotations += 1;
        }
    }
    while let Some(review) = reviews.join_next().await {
        review.unwrap().expect("no review fails");
        done += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{done} reviews in {seconds:.1} s, {rotations} rotations");
    assert!(
        f64::from(done) > seconds * f64::from(RATE) / 4.0,
        "{done} reviews"
    );
}
