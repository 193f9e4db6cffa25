//! Reconciles against a mocked API server: which calls are made, with what, and what comes of the answers.

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{self, Handle};

use super::*;

type Server = Handle<Request<Body>, Response<Body>>;

/// A call that is expected, and what is answered.
struct Expected {
    method: Method,
    path: &'static str,
    /// Fields of the body, by JSON pointer.
    body: Vec<(&'static str, Value)>,
    answer: (u16, Value),
}

const MAP: &str = "/api/v1/namespaces/shop/configmaps/pawl-policy-payments";
const STATUS: &str = "/apis/pawl.dev/v1alpha1/namespaces/shop/lockpolicies/payments/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

impl Expected {
    fn new(method: Method, path: &'static str, answer: Value) -> Self {
        Self {
            method,
            path,
            body: Vec::new(),
            answer: (200, answer),
        }
    }

    fn refused(mut self, code: u16) -> Self {
        let answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": if code == 404 { "NotFound" } else { "Other" }, "message": "no"});
        self.answer = (code, answer);
        self
    }

    fn with(mut self, pointer: &'static str, value: Value) -> Self {
        self.body.push((pointer, value));
        self
    }
}

fn no_map() -> Expected {
    Expected::new(Method::GET, MAP, Value::Null).refused(404)
}

fn map_applied(policy: &ObservedPolicy) -> Expected {
    let map = serde_json::to_value(render::config_map(policy)).unwrap();
    Expected::new(Method::PATCH, MAP, map.clone())
        .with("/metadata/ownerReferences/0/uid", json!("u-1"))
        .with("/data", map["data"].clone())
}

fn status_written(policy: &ObservedPolicy, accepted: &str) -> Expected {
    Expected::new(Method::PATCH, STATUS, serde_json::to_value(policy).unwrap())
        .with("/metadata/resourceVersion", json!("81723"))
        .with("/status/observedGeneration", json!(4))
        .with("/status/conditions/0/reason", json!(accepted))
}

fn told(reason: &str) -> Expected {
    let event = json!({"metadata": {"name": "e"}, "eventTime": null});
    Expected::new(Method::POST, EVENTS, event).with("/reason", json!(reason))
}

fn policy(patch: &Value) -> ObservedPolicy {
    let mut policy = json!({
        "apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy",
        "metadata": {
            "name": "payments", "namespace": "shop", "generation": 4, "uid": "u-1",
            "resourceVersion": "81723",
        },
        "spec": {"backend": {"memory": {}}},
    });
    json_patch::merge(&mut policy, patch);
    serde_json::from_value(policy).unwrap()
}

/// What a leader shares, with a client that speaks to a script.
fn leading(client: Client, leads: bool, map: Option<ConfigMap>) -> Leading {
    let clock = Clock::system();
    let leadership = if leads {
        Leadership::leading(clock.clone())
    } else {
        Leadership::new(clock.clone())
    };
    let (config_maps, mut maps) = reflector::store();
    if let Some(map) = map {
        maps.apply_watcher_event(&Event::Apply(map));
    }
    let (to_policies, _) = mpsc::channel(1);
    let (to_pods, _) = mpsc::channel(1);
    Leading {
        policies: reflector::store().0,
        config_maps,
        pods: reflector::store().0,
        reports: Reports::default(),
        fetch: Fetch::new(),
        writer: Writer::new(client, leadership, "pawl-operator-a"),
        clock,
        metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        failures: Mutex::default(),
        to_policies,
        to_pods,
    }
}

/// Answers the calls in their order, and finds that there are no others.
async fn serve(mut server: Server, script: Vec<Expected>) {
    for expected in script {
        let (request, answer) = server.next_request().await.expect("another call");
        let (parts, body) = request.into_parts();
        assert_eq!(
            (&parts.method, parts.uri.path()),
            (&expected.method, expected.path)
        );
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        for (pointer, value) in expected.body {
            assert_eq!(body.pointer(pointer), Some(&value), "{pointer} of {body:#}");
        }
        let (code, text) = expected.answer;
        let response = Response::builder().status(code);
        answer.send_response(
            response
                .body(Body::from(text.to_string().into_bytes()))
                .unwrap(),
        );
    }
    if let Some((request, _)) = server.next_request().await {
        panic!("one more call: {} {}", request.method(), request.uri());
    }
}

/// Reconciles a policy once against a script.
async fn outcome(
    policy: &ObservedPolicy,
    leads: bool,
    map: Option<ConfigMap>,
    script: Vec<Expected>,
) -> Result<(), ApplyError> {
    let (service, server) = mock::pair::<Request<Body>, Response<Body>>();
    let leading = leading(Client::new(service, "default"), leads, map);
    let reconciled = async {
        let outcome = reconcile(policy, &leading).await;
        drop(leading);
        outcome
    };
    tokio::join!(reconciled, serve(server, script)).0
}

#[tokio::test]
async fn a_new_policy_is_rendered_told_and_announced() {
    let policy = policy(&json!({}));
    let script = vec![
        no_map(),
        map_applied(&policy),
        status_written(&policy, "Valid"),
        told("Valid"),
    ];
    outcome(&policy, true, None, script).await.unwrap();
}

/// A policy as it is after its first reconcile.
fn settled() -> (ObservedPolicy, ConfigMap) {
    let mut policy = policy(&json!({}));
    let status = assess::assess(
        &policy,
        &validate(&policy),
        &Delivery::Rendered,
        &[],
        Clock::system().wall(),
    );
    policy.status = serde_json::to_value(status).unwrap();
    let map = render::config_map(&policy);
    (policy, map)
}

#[tokio::test]
async fn what_is_where_it_belongs_costs_no_call() {
    let (policy, map) = settled();
    outcome(&policy, true, Some(map), vec![]).await.unwrap();
}

#[tokio::test]
async fn a_change_is_applied_over_what_is_known() {
    let (mut policy, map) = settled();
    policy.metadata.generation = Some(4);
    policy.spec["lease"] = json!({"ttl": "20s"});
    let script = vec![map_applied(&policy)];
    outcome(&policy, true, Some(map), script).await.unwrap();
}

#[tokio::test]
async fn a_foreign_config_map_is_not_overwritten() {
    let policy = policy(&json!({}));
    let foreign = json!({"metadata": {"name": "pawl-policy-payments", "namespace": "shop"}, "data": {"mine": "yes"}});
    let script = vec![
        Expected::new(Method::GET, MAP, foreign),
        status_written(&policy, "Conflict"),
        told("Conflict"),
    ];
    outcome(&policy, true, None, script).await.unwrap();
}

#[tokio::test]
async fn what_is_not_understood_is_not_rendered() {
    for patch in [
        json!({"spec": {"quorum": 3}}),
        json!({"spec": "nonsense"}),
        json!({"spec": {"backend": {"memory": null}}}),
    ] {
        let policy = policy(&patch);
        let script = vec![status_written(&policy, "Invalid"), told("Invalid")];
        outcome(&policy, true, None, script).await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_lead_makes_no_call() {
    let error = outcome(&policy(&json!({})), false, None, vec![])
        .await
        .unwrap_err();
    assert_eq!(error.category(), "not_leading");
}

#[tokio::test]
async fn a_policy_that_is_being_deleted_is_left_alone() {
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    outcome(&policy(&deleted), true, None, vec![])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refusal_ends_the_reconcile_and_says_what_was_refused() {
    let policy = policy(&json!({}));
    let broken = Expected::new(Method::GET, MAP, Value::Null).refused(500);
    let error = outcome(&policy, true, None, vec![broken])
        .await
        .unwrap_err();
    assert_eq!((error.category(), error.is_stale()), ("refused", false));

    let forbidden = map_applied(&policy).refused(403);
    let error = outcome(&policy, true, None, vec![no_map(), forbidden])
        .await
        .unwrap_err();
    assert_eq!(error.category(), "forbidden");
    assert!(
        error
            .to_string()
            .starts_with("the ConfigMap was not written"),
        "{error}"
    );

    let stale = status_written(&policy, "Valid").refused(409);
    let script = vec![no_map(), map_applied(&policy), stale];
    let error = outcome(&policy, true, None, script).await.unwrap_err();
    assert_eq!((error.category(), error.is_stale()), ("conflict", true));
}

#[tokio::test]
async fn an_event_that_is_refused_stops_nothing() {
    let policy = policy(&json!({}));
    let script = vec![
        no_map(),
        map_applied(&policy),
        status_written(&policy, "Valid"),
        told("Valid").refused(500),
    ];
    outcome(&policy, true, None, script).await.unwrap();
}

#[tokio::test]
async fn a_touch_changes_one_annotation_of_that_very_pod() {
    let (service, server) = mock::pair::<Request<Body>, Response<Body>>();
    let leading = leading(Client::new(service, "default"), true, None);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "app-1", "namespace": "shop", "uid": "u-7", "resourceVersion": "3"},
    }))
    .unwrap();
    let whole = json!({"uid": "u-7", "annotations": {"pawl.dev/policy-sum": "abc"}});
    let path = "/api/v1/namespaces/shop/pods/app-1";
    let answer = serde_json::to_value(&pod).unwrap();
    let script =
        vec![Expected::new(Method::PATCH, path, answer).with("", json!({"metadata": whole}))];
    let touched = async {
        let touched = leading.writer.poke(&pod, "abc").await;
        drop(leading);
        touched
    };
    tokio::join!(touched, serve(server, script)).0.unwrap();
}
