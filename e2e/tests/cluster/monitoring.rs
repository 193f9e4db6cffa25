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
    bank,
    injection::{pod, policy, server},
    install,
    kube::{Kube, PATIENCE},
    locks::{acquire, granted, hold, json},
};

const NAMESPACE: &str = "monitoring";

/// Where sidecars are looked for.
const WATCHED: [&str; 4] = ["bank", "alerts", "tls", "alone"];

/// A Service without an address, whose name stands for the addresses of its pods. Debian's Prometheus is built without the discovery
/// that asks the API server, so it finds pods by DNS.
fn addresses(name: &str, labels: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "selector": labels},
    })
    .to_string()
}

/// All pods behind such a name; what the monitors of the charts make of them.
fn job(name: &str, service: &str, namespace: &str, port: u16) -> Value {
    json!({
        "job_name": format!("{name}/{namespace}"),
        "dns_sd_configs": [{
            "names": [format!("{service}.{namespace}.svc.cluster.local")],
            "type": "A", "port": port, "refresh_interval": "1s",
        }],
        "relabel_configs": [
            {"target_label": "job", "replacement": name},
            {"target_label": "namespace", "replacement": namespace},
            {"source_labels": ["__address__"], "target_label": "pod"},
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
    if !kube.get(&["pod", "-n", NAMESPACE, "prometheus"]).is_null() {
        return;
    }
    kube.namespace(NAMESPACE);
    let operators =
        json!({"app.kubernetes.io/name": "pawl", "app.kubernetes.io/component": "operator"});
    kube.apply(install::NAMESPACE, &addresses("operators", &operators));
    for namespace in WATCHED {
        kube.namespace(namespace);
        let sidecars = json!({"pawl.dev/inject": "true"});
        kube.apply(namespace, &addresses("sidecars", &sidecars));
    }
    let banks = json!({"app.kubernetes.io/component": "bank"});
    kube.apply(bank::NAMESPACE, &addresses("banks", &banks));
    let mut jobs = vec![
        job("operators", "operators", install::NAMESPACE, 4601),
        job("banks", "banks", bank::NAMESPACE, 8080),
    ];
    jobs.extend(WATCHED.map(|namespace| job("sidecars", "sidecars", namespace, 4601)));
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["/etc/prometheus/alerts.json"],
        "scrape_configs": jobs,
    });
    let files = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"},
        "data": {"prometheus.json": config.to_string(), "alerts.json": rules().to_string()},
    });
    kube.apply(NAMESPACE, &files.to_string());
    let extra = json!({
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

/// How many alerts fired in the last minute; no value if none did.
fn fired(selector: &str) -> String {
    format!("count(count_over_time(ALERTS{{alertstate=\"firing\",{selector}}}[1m]))")
}

/// Waits until an alert fires, or has fired in the last minute.
pub(super) fn fires(kube: &Kube, selector: &str) {
    until(kube, &fired(selector), |count| count > 0.0);
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

/// Where faults are made.
const FAULTY: &str = "alerts";

fn alert(name: &str) -> String {
    format!("namespace=\"{FAULTY}\",alertname=\"{name}\"")
}

fn redis(kube: &Kube) {
    let container = json!({"args": ["--save", "", "--protected-mode", "no"]});
    let redis = server("redis", REDIS, 6379, &container, &json!({}));
    kube.apply(FAULTY, &redis);
    kube.ready(FAULTY, "redis");
}

/// Each fault with the alert that is for it. Those of the operator are in `faults`, of certificates in `secrets`.
pub(super) fn each_fault_fires_its_alert(kube: &Kube) {
    install(kube);
    kube.namespace(FAULTY);
    redis(kube);
    let backend = "{redis: {url: 'redis://redis:6379/0'}}";
    kube.apply(FAULTY, &policy("jobs", backend, "lease: {ttl: 5s}"));
    kube.apply(FAULTY, &pod("one", "jobs", ""));
    kube.apply(FAULTY, &pod("two", "jobs", ""));
    // What is counted before the first scrape is not seen to grow.
    let sidecars = "sum(up{job=\"sidecars\",namespace=\"alerts\"})";
    until(kube, sidecars, |up| up > 1.5);
    applications_that_fail(kube);
    a_backend_that_fails(kube);
    kube.run(&["delete", "namespace", FAULTY, "--wait=false"]);
}

fn applications_that_fail(kube: &Kube) {
    let manual = json!({"renew": "manual"});
    for name in ["one", "two"] {
        kube.ready(FAULTY, name);
        granted(kube, FAULTY, name, &format!("-/{name}"), &manual);
    }
    // Nobody renews or releases these.
    fires(kube, &alert("PawlLeasesOverrun"));
    let any = format!("namespace=\"{FAULTY}\"");
    kube.until("all is quiet again", PATIENCE, || {
        firing(kube, &any).is_empty().then_some(())
    });

    let fence = |token: u32| {
        let script = format!(
            "curl -sS -X POST -H 'Content-Type: application/json' -d '{{\"fencingToken\":{token}}}' $PAWL_URL/v1/fences/jobs/guarded"
        );
        json(kube, FAULTY, "one", &script)
    };
    assert_eq!(fence(42)["highest"], 42);
    assert_eq!(fence(41)["status"], 409);
    fires(kube, &alert("PawlStaleWritesRefused"));

    hold(kube, FAULTY, "one", "-/key", &json!({"renew": "auto"}));
    // In the background: it waits for as long as the first holds.
    let waiter = "curl -sS -m 50 -o /dev/null -X POST -H 'Content-Type: application/json' -d '{\"wait\":\"1m\"}' \
                  $PAWL_URL/v1/locks/-/key >/dev/null 2>&1 </dev/null &";
    kube.exec(FAULTY, "two", waiter).unwrap();
    fires(kube, &alert("PawlWaitersStuck"));
}

fn a_backend_that_fails(kube: &Kube) {
    kube.run(&[
        "delete",
        "pod",
        "-n",
        FAULTY,
        "redis",
        "--grace-period=0",
        "--force",
    ]);
    for name in ["PawlLeasesLost", "PawlBackendFailing", "PawlBackendDown"] {
        kube.until(name, PATIENCE, || {
            acquire(kube, FAULTY, "two", "-/other", &json!({}));
            number(kube, &fired(&alert(name))).filter(|count| *count > 0.0)
        });
        println!("it fires: {name}");
    }
    redis(kube);
    granted(kube, FAULTY, "one", "-/after", &json!({"renew": "manual"}));
}
