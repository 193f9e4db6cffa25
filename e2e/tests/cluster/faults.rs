//! What happens to locks when pods are evicted (S9, S15) and when the operator is gone (O1, O3).

use serde_json::{Value, json};

use super::{
    injection::{pod, policy},
    install,
    kube::{Kube, PATIENCE},
};

/// Acquires in a pod; the answer of the sidecar.
fn acquire(kube: &Kube, namespace: &str, pod: &str, body: &Value) -> Value {
    let script = format!(
        "curl -sS -X POST -H 'Content-Type: application/json' -d '{body}' $PAWL_URL/v1/locks/-/the-key"
    );
    let answer = kube
        .exec(namespace, pod, &script)
        .unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// With Leases of the API server and a ttl of a minute: the successor can only have it so soon because it was released.
pub(super) fn an_evicted_holder_hands_over(kube: &Kube) {
    let namespace = "evict";
    kube.namespace(namespace);
    kube.run(&[
        "create",
        "rolebinding",
        "locks",
        "-n",
        namespace,
        "--clusterrole=pawl-kubernetes-locks",
        &format!("--serviceaccount={namespace}:default"),
    ]);
    kube.apply(
        namespace,
        &policy("leases", "{kubernetes: {}}", "lease: {ttl: 1m, maxTtl: 2m}"),
    );
    for name in ["one", "two"] {
        kube.apply(namespace, &pod(name, "leases", ""));
    }
    for name in ["one", "two"] {
        kube.ready(namespace, name);
    }
    let first = kube.until("a lock", PATIENCE, || {
        let answer = acquire(kube, namespace, "one", &json!({"renew": "auto"}));
        answer["fencingToken"].as_u64()
    });
    let other = acquire(kube, namespace, "two", &json!({}));
    assert_eq!(other["status"], 423, "{other}");
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "one", "namespace": namespace},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/one/eviction");
    let start = kube.now();
    kube.ask(
        &["create", "--raw", &path, "-f", "-"],
        &eviction.to_string(),
    )
    .unwrap();
    let second = kube.until("the successor has it", 30, || {
        acquire(kube, namespace, "two", &json!({"wait": "20s"}))["fencingToken"].as_u64()
    });
    let took = kube.now().saturating_since(start).as_secs_f64();
    println!("the successor had the lock {took:.1} s after the eviction");
    assert!(second > first, "{second} after {first}");
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

pub(super) fn locks_go_on_without_the_operator(kube: &Kube) {
    let namespace = "alone";
    kube.namespace(namespace);
    kube.apply(namespace, &policy("local", "{memory: {}}", ""));
    kube.apply(namespace, &pod("app", "local", ""));
    kube.ready(namespace, "app");
    let scale = |replicas: &str| {
        let deployment = "deployment/pawl-operator";
        kube.run(&[
            "scale",
            "-n",
            install::NAMESPACE,
            deployment,
            "--replicas",
            replicas,
        ]);
    };
    scale("0");
    kube.until("the operators are gone", PATIENCE, || {
        let pods = ["get", "pods", "-n", install::NAMESPACE, "-o", "name"];
        kube.run(&pods).trim().is_empty().then_some(())
    });
    let grant = acquire(kube, namespace, "app", &json!({}));
    assert!(grant["fencingToken"].is_u64(), "{grant}");
    let refusal = kube
        .ask(
            &["apply", "-n", namespace, "-f", "-"],
            &pod("late", "local", ""),
        )
        .expect_err("a pod with the label is refused");
    assert!(refusal.contains("failed calling webhook"), "{refusal}");
    kube.apply(
        namespace,
        &pod("plain", "local", "").replace("'true'", "'false'"),
    );
    kube.ready(namespace, "plain");
    scale("2");
    kube.run(&[
        "rollout",
        "status",
        "-n",
        install::NAMESPACE,
        "deployment/pawl-operator",
        "--timeout=120s",
    ]);
    kube.until("pods are taken again", PATIENCE, || {
        kube.ask(
            &["apply", "-n", namespace, "-f", "-"],
            &pod("late", "local", ""),
        )
        .ok()
    });
    kube.ready(namespace, "late");
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}
