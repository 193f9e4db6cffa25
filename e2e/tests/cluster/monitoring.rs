//! A Prometheus of Debian in the cluster: it finds operators, sidecars and banks, and judges the chart's alert rules.
//!
//! The rules are the chart's, with shorter times: what they count over minutes is counted over seconds, and what has to last is told
//! at once. That they wait as long as they should is shown by promtool (`e2e/tests/charts/alerts.rs`).

use std::fs;

use pawl_e2e::{
    chart::folder,
    cluster::images::{PROMETHEUS, REDIS},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    injection::{pod, policy, server},
    install,
    kube::{Kube, PATIENCE},
    locks::{acquire, granted, hold, json},
};

const NAMESPACE: &str = "monitoring";

/// What a pod in a `restricted` namespace has to say.
const ACCESS: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: prometheus}
rules:
- {apiGroups: [''], resources: [pods], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: prometheus}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: monitoring}]
";

/// Pods with a label, by the name of the port; what the monitors of the charts make of it.
fn job(name: &str, label: &str, value: &str, port: &str) -> Value {
    json!({
        "job_name": name,
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": [
            {"action": "keep", "source_labels": [format!("__meta_kubernetes_pod_label_{label}")], "regex": value},
            {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": port},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    })
}

/// The rules of the chart, quickened.
fn rules() -> Value {
    let text = fs::read_to_string(folder("pawl").join("files/alerts.yaml")).unwrap();
    let lines = text.lines();
    let lines: Vec<&str> = lines
        .filter(|line| !line.trim_start().starts_with("for: "))
        .collect();
    let text = lines.join("\n");
    let text = ["[2m]", "[5m]", "[10m]", "[15m]"]
        .iter()
        .fold(text, |text, range| text.replace(range, "[15s]"));
    serde_yaml::from_str(&text).unwrap()
}

/// Installs it, unless it is there.
pub(super) fn install(kube: &Kube) {
    kube.namespace(NAMESPACE);
    kube.apply(NAMESPACE, ACCESS);
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["/etc/prometheus/alerts.json"],
        "scrape_configs": [
            job("operators", "app_kubernetes_io_name", "pawl", "admin"),
            job("sidecars", "pawl_dev_inject", "true", "pawl-admin"),
            job("banks", "app_kubernetes_io_component", "bank", "http"),
        ],
    });
    let files = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"},
        "data": {"prometheus.json": config.to_string(), "alerts.json": rules().to_string()},
    });
    kube.apply(NAMESPACE, &files.to_string());
    let extra = json!({
        "serviceAccountName": "prometheus",
        "volumes": [
            {"name": "files", "configMap": {"name": "prometheus"}},
            {"name": "data", "emptyDir": {}},
        ],
    });
    let container = json!({
        "args": [
            "--config.file=/etc/prometheus/prometheus.json", "--storage.tsdb.path=/data",
            "--web.listen-address=:9090",
        ],
        "volumeMounts": [
            {"name": "files", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"},
        ],
    });
    kube.apply(
        NAMESPACE,
        &server("prometheus", PROMETHEUS, 9090, &container, &extra),
    );
    kube.ready(NAMESPACE, "prometheus");
}

/// The result of a query, now: series with labels (`metric`) and a value.
pub(super) fn query(kube: &Kube, expression: &str) -> Vec<Value> {
    let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
    let target = format!("prometheus:9090/api/v1/query?query={encoded}");
    let answer = kube.proxy(NAMESPACE, &target).unwrap_or_default();
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    answer["data"]["result"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// The value of a query that has one.
pub(super) fn number(kube: &Kube, expression: &str) -> Option<f64> {
    let result = query(kube, expression);
    result.first()?["value"][1].as_str()?.parse().ok()
}

/// Waits until a query has a value that is wanted.
pub(super) fn until(kube: &Kube, expression: &str, is_wanted: impl Fn(f64) -> bool) -> f64 {
    kube.until(expression, PATIENCE, || {
        number(kube, expression).filter(|value| is_wanted(*value))
    })
}

/// The alerts that fire now.
pub(super) fn firing(kube: &Kube, selector: &str) -> Vec<Value> {
    query(kube, &format!("ALERTS{{alertstate=\"firing\",{selector}}}"))
}

/// Waits until an alert fires, or has fired in the last minute.
pub(super) fn fires(kube: &Kube, selector: &str) {
    let expression =
        format!("count(count_over_time(ALERTS{{alertstate=\"firing\",{selector}}}[1m]))");
    until(kube, &expression, |count| count > 0.0);
    println!("it fires: {selector}");
}

pub(super) fn prometheus_finds_both_operators(kube: &Kube) {
    install(kube);
    until(kube, "sum(up{job=\"operators\"})", |up| up > 1.5);
    until(kube, "sum(pawl_operator_leader)", |leaders| {
        (leaders - 1.0).abs() < 0.5
    });
    let silent = format!("namespace=\"{}\"", install::NAMESPACE);
    kube.until("no alert fires", PATIENCE, || {
        firing(kube, &silent).is_empty().then_some(())
    });
}

/// Each fault with the alert that is for it. Those of the operator are in `faults`, of certificates in `secrets`.
pub(super) fn each_fault_fires_its_alert(kube: &Kube) {
    install(kube);
    let namespace = "alerts";
    let alert = |name: &str| format!("namespace=\"{namespace}\",alertname=\"{name}\"");
    kube.namespace(namespace);
    let redis = |kube: &Kube| {
        let container = json!({"args": ["--save", "", "--protected-mode", "no"]});
        kube.apply(
            namespace,
            &server("redis", REDIS, 6379, &container, &json!({})),
        );
        kube.ready(namespace, "redis");
    };
    redis(kube);
    kube.apply(
        namespace,
        &policy(
            "jobs",
            "{redis: {url: 'redis://redis:6379/0'}}",
            "lease: {ttl: 5s}",
        ),
    );
    kube.apply(namespace, &pod("one", "jobs", ""));
    kube.apply(namespace, &pod("two", "jobs", ""));
    for name in ["one", "two"] {
        kube.ready(namespace, name);
        granted(
            kube,
            namespace,
            name,
            &format!("-/{name}"),
            &json!({"renew": "manual"}),
        );
    }
    // The lease that was just forgotten is one that nobody renewed.
    fires(kube, &alert("PawlLeasesOverrun"));
    let quiet = format!("namespace=\"{namespace}\"");
    kube.until("all is quiet", PATIENCE, || {
        firing(kube, &quiet).is_empty().then_some(())
    });

    let fence = |token: u32| {
        let script = format!(
            "curl -sS -X POST -H 'Content-Type: application/json' -d '{{\"fencingToken\":{token}}}' $PAWL_URL/v1/fences/jobs/guarded"
        );
        json(kube, namespace, "one", &script)
    };
    assert_eq!(fence(42)["highest"], 42);
    assert_eq!(fence(41)["status"], 409);
    fires(kube, &alert("PawlStaleWritesRefused"));

    hold(kube, namespace, "one", "-/key", &json!({"renew": "auto"}));
    // In the background: it waits for as long as the first holds.
    let waiter = "curl -sS -m 50 -o /dev/null -X POST -H 'Content-Type: application/json' -d '{\"wait\":\"1m\"}' \
                  $PAWL_URL/v1/locks/-/key >/dev/null 2>&1 </dev/null &";
    kube.exec(namespace, "two", waiter).unwrap();
    fires(kube, &alert("PawlWaitersStuck"));

    kube.run(&[
        "delete",
        "pod",
        "-n",
        namespace,
        "redis",
        "--grace-period=0",
        "--force",
    ]);
    for name in ["PawlLeasesLost", "PawlBackendFailing", "PawlBackendDown"] {
        let expression = format!(
            "count(count_over_time(ALERTS{{alertstate=\"firing\",{}}}[1m]))",
            alert(name)
        );
        kube.until(name, PATIENCE, || {
            let refused = acquire(kube, namespace, "two", "-/other", &json!({}));
            assert!(
                refused["fencingToken"].is_null(),
                "without a backend: {refused}"
            );
            number(kube, &expression).filter(|count| *count > 0.0)
        });
        println!("it fires: {name}");
    }
    redis(kube);
    granted(kube, namespace, "one", "-/key", &json!({"renew": "manual"}));
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}
