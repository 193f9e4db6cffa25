//! The Grafana dashboard asks a real Prometheus, which scrapes real sidecars: each query is understood, and shows something
//! after some locks.

#![allow(clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use hyper::Method;
use pawl_e2e::{
    chart::{folder, read, root},
    server::{
        prometheus::{PrometheusServer, Target},
        redis::{RedisOptions, RedisServer},
    },
    sidecar::{POLICY, Sidecar},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long a query may show nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The queries of the panels, by row, panel and expression, with Grafana's variables set.
fn queries() -> Vec<(String, String, String)> {
    let text = read(&folder("pawl").join("files/dashboard.json"));
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut row = String::new();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        let title = panel["title"]
            .as_str()
            .expect("a panel has a title")
            .to_owned();
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{title}"
        );
        for target in panel["targets"].as_array().expect("a panel has targets") {
            let expression = target["expr"].as_str().expect("a target has an expression");
            let expression = expression
                .replace("$__rate_interval", "20s")
                .replace("$namespace", ".*")
                .replace("$policy", ".*");
            assert!(
                !expression.contains('$'),
                "{title}: unknown variable in {expression}"
            );
            queries.push((row.clone(), title.clone(), expression));
        }
    }
    assert!(queries.len() > 20, "only {} queries", queries.len());
    queries
}

#[tokio::test]
async fn each_query_of_the_dashboard_shows_something_after_some_locks() {
    let redis = RedisServer::start(RedisOptions::default());
    let spec = json!({
        "purpose": "Efficiency",
        "backend": {"redis": {"url": redis.url()}},
        "lease": {"ttl": "1s", "retain": "0s"},
        "acquire": {"wait": "5s"},
    });
    let sidecars = [
        Sidecar::start_as("a", &spec).await,
        Sidecar::start_as("b", &spec).await,
    ];
    let target = |sidecar: &Sidecar, pod| Target {
        address: sidecar.admin,
        labels: vec![("namespace", "shop"), ("pod", pod)],
    };
    let prometheus =
        PrometheusServer::start(&[target(&sidecars[0], "a"), target(&sidecars[1], "b")]).await;
    let mut pending: Vec<_> = queries()
        .into_iter()
        .filter(|(row, ..)| row != "Operator")
        .collect();
    let start = Instant::now();
    let mut rounds = 0;
    while !pending.is_empty() {
        traffic(&sidecars, &redis, rounds).await;
        rounds += 1;
        let mut left = Vec::new();
        for (row, title, expression) in pending {
            let shown = prometheus.query(&expression).await;
            let shown =
                shown.unwrap_or_else(|error| panic!("{row}, {title}: {expression}: {error}"));
            // A quantile of nothing is NaN: a line that nobody sees.
            if !shown.iter().any(|series| series["value"][1] != "NaN") {
                left.push((row, title, expression));
            }
        }
        pending = left;
        assert!(
            start.elapsed() < PATIENCE,
            "these show nothing: {pending:#?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
    // Numbers, not only series: what was done is what is shown.
    let number = async |expression: &str| {
        let series = prometheus
            .query(expression)
            .await
            .expect("it is understood");
        series[0]["value"][1]
            .as_str()
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
    };
    let sidecars = number("count(pawl_build_info{component=\"sidecar\"})").await;
    assert!((sidecars - 2.0).abs() < f64::EPSILON, "{sidecars}");
    assert!(number("sum(pawl_lock_acquires_total{result=\"granted\"})").await >= 2.0);
    assert!(number("sum(pawl_fence_rejections_total)").await >= 1.0);
    assert!(number("sum(pawl_leases_lost_total)").await >= 1.0);
    assert!(number("sum(pawl_backend_errors_total)").await >= 1.0);
}

/// No operator runs here (the cluster tests have one), but Prometheus understands what is asked of it, and the documentation
/// knows the metrics.
#[tokio::test]
async fn each_query_about_the_operator_is_understood() {
    let prometheus = PrometheusServer::start(&[]).await;
    let documented = read(&root().join("docs/metrics.md"));
    let mut asked = 0;
    for (row, title, expression) in queries() {
        if row == "Operator" {
            let understood = prometheus.query(&expression).await;
            assert!(understood.is_ok(), "{title}: {expression}: {understood:?}");
            let (_, name) = expression
                .split_once("pawl_operator_")
                .expect("it is about it");
            let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let name = &name[..end.unwrap_or(name.len())];
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(
                documented.contains(&format!("`pawl_operator_{name}`")),
                "{title}: {name}"
            );
            asked += 1;
        }
    }
    assert!(asked >= 4, "only {asked} queries");
}

/// Locks that are taken, waited for, fenced and lost; and a server that does not answer for a while.
async fn traffic(sidecars: &[Sidecar; 2], redis: &RedisServer, round: usize) {
    let path = Sidecar::lock("account/42");
    let mut a = sidecars[0].connect().await.expect("it listens");
    let mut b = sidecars[1].connect().await.expect("it listens");
    let give_back = async {
        let first = a.acquire(&path, "").await;
        sleep(Duration::from_millis(100)).await;
        if let Ok(lease) = first {
            let _ = a.release(&lease.id).await;
        }
    };
    let wait_for_it = async {
        sleep(Duration::from_millis(20)).await;
        b.acquire(&path, "").await
    };
    let ((), second) = tokio::join!(give_back, wait_for_it);
    if let Ok(lease) = second {
        let fence = format!("/v1/fences/{POLICY}/account/42");
        let newest = json!({"fencingToken": lease.token}).to_string();
        let stale = json!({"fencingToken": lease.token - 1}).to_string();
        let _ = b.release(&lease.id).await;
        let _ = a.send(Method::POST, &fence, newest).await;
        let _ = a.send(Method::POST, &fence, stale).await;
    }
    // Nobody renews it: it is lost at its ttl.
    let manual = r#"{"renew":"manual","ttl":"200ms"}"#;
    let _ = a.acquire(&Sidecar::lock("left/behind"), manual).await;
    // And this one is renewed.
    let _ = b.acquire(&Sidecar::lock("kept"), "").await;
    if round == 0 {
        redis.pause();
        let _ = a
            .acquire(&Sidecar::lock("unanswered"), r#"{"wait":"0s"}"#)
            .await;
        redis.resume();
    }
}
