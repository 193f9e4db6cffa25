//! Roles and admission policies let each account do what it is for and nothing else.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams,
        PostParams,
    },
};
use pawl_operator::check::check;
use serde_json::{Value, json};

use super::{Cluster, NAMESPACE, locks};

pub(super) const OPERATOR: &str = "system:serviceaccount:pawl-system:pawl-operator";
const CHECK: &str = "system:serviceaccount:pawl-system:pawl-check";
/// How long an admission policy may take to be in force.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn each_account_may_do_what_it_is_for_and_nothing_else() {
    let cluster = Cluster::installed().await;
    the_operator_may_write_its_own_objects_and_read_no_secret(&cluster).await;
    locks::who_locks_by_leases_may_write_only_those_with_the_prefix(&cluster).await;
    the_check_says_why_the_webhook_is_not_there(&cluster, "failed calling webhook").await;
    // The webhook would refuse pods with the label: nobody answers there.
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(cluster.server.client());
    hooks
        .delete("pawl-inject", &DeleteParams::default())
        .await
        .expect("the administrator may");
    the_operator_may_poke_labelled_pods_and_nothing_else(&cluster).await;
    the_check_may_only_try(&cluster).await;
    the_check_says_why_the_webhook_is_not_there(&cluster, "no webhook reviews pods").await;
}

fn pod(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": {"pawl.dev/policies": "p", "keep": "me"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

/// Applies a merge patch and tells the refusal's text.
pub(super) async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> Result<(), String>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams {
        field_manager: Some("pawl-operator".to_owned()),
        ..PatchParams::default()
    };
    let answer = api.patch(name, &params, &Patch::Merge(patch)).await;
    answer.map(|_| ()).map_err(|error| error.to_string())
}

/// Asks until an admission policy is in force: until what is forbidden is refused with this text.
pub(super) async fn until_refused<F>(what: impl Fn() -> F, text: &str)
where
    F: Future<Output = Result<(), String>>,
{
    let start = tokio::time::Instant::now();
    loop {
        let answer = what().await;
        match &answer {
            Err(refusal) if refusal.contains(text) => return,
            _ => assert!(
                start.elapsed() < PATIENCE,
                "not refused with {text:?}: {answer:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn the_operator_may_poke_labelled_pods_and_nothing_else(cluster: &Cluster) {
    let pods: Api<Pod> = Api::namespaced(cluster.server.client(), "shop");
    for (name, labels) in [
        ("bound", json!({"pawl.dev/inject": "true", "app": "shop"})),
        ("other", json!({"app": "shop"})),
    ] {
        let pod: Pod = serde_json::from_value(pod(name, &labels)).expect("it is a pod");
        pods.create(&PostParams::default(), &pod)
            .await
            .expect("the administrator may");
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client_as(OPERATOR), "shop");
    let annotate = |name: &str, value: Value| json!({"metadata": {"annotations": {name: value}}});
    let only_annotation = "may change no annotation of a pod but pawl.dev/policy-sum";
    // Another value each time, should one slip through before the policy is in force.
    let tries = std::cell::Cell::new(0);
    let next = || {
        tries.set(tries.get() + 1);
        let value = json!(tries.get().to_string());
        merge(&pods, "bound", annotate("other", value))
    };
    until_refused(next, only_annotation).await;

    merge(&pods, "bound", annotate("pawl.dev/policy-sum", json!("1")))
        .await
        .expect("this is what it may");
    merge(&pods, "bound", annotate("pawl.dev/policy-sum", json!("2")))
        .await
        .expect("again");
    let now = pods.get("bound").await.expect("it may read pods");
    assert_eq!(now.annotations()["pawl.dev/policy-sum"], "2");
    merge(&pods, "bound", annotate("pawl.dev/policy-sum", Value::Null))
        .await
        .expect("and back");

    let nothing_else = "may change nothing of a pod but the annotation";
    for (name, patch, said) in [
        ("bound", annotate("keep", json!("changed")), only_annotation),
        ("bound", annotate("keep", Value::Null), only_annotation),
        (
            "bound",
            annotate("pawl.dev/image", json!("evil:1")),
            only_annotation,
        ),
        (
            "bound",
            json!({"metadata": {"labels": {"app": "x"}}}),
            nothing_else,
        ),
        (
            "bound",
            json!({"metadata": {"labels": {"pawl.dev/inject": null}}}),
            nothing_else,
        ),
        (
            "bound",
            json!({"metadata": {"finalizers": ["x.example/y"]}}),
            nothing_else,
        ),
        (
            "bound",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "other", "uid": "1"}]}}),
            nothing_else,
        ),
        (
            "bound",
            json!({"spec": {"activeDeadlineSeconds": 1}}),
            nothing_else,
        ),
        (
            "bound",
            json!({"spec": {"containers": [{"name": "app", "image": "evil:1"}]}}),
            nothing_else,
        ),
        (
            "other",
            annotate("pawl.dev/policy-sum", json!("1")),
            "may only patch pods with the label",
        ),
        (
            "other",
            json!({"metadata": {"labels": {"pawl.dev/inject": "true"}}}),
            "may only patch pods with the label",
        ),
    ] {
        let refusal = merge(&pods, name, patch.clone()).await;
        let refusal = refusal.expect_err(&format!("{name} {patch} is not refused"));
        assert!(refusal.contains(said), "{name} {patch}: {refusal}");
    }
    let forbidden = pods.delete("bound", &DeleteParams::default()).await;
    assert!(
        forbidden
            .expect_err("it may not")
            .to_string()
            .contains("forbidden")
    );
    let new: Pod = serde_json::from_value(pod("new", &json!({}))).expect("it is a pod");
    let forbidden = pods.create(&PostParams::default(), &new).await;
    assert!(
        forbidden
            .expect_err("it may not")
            .to_string()
            .contains("forbidden")
    );
}

async fn the_operator_may_write_its_own_objects_and_read_no_secret(cluster: &Cluster) {
    let operator = cluster.client_as(OPERATOR);
    let admin: Api<ConfigMap> = Api::namespaced(cluster.server.client(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(operator.clone(), "shop");
    let map = |name: &str, manager: &str| ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(
                [(
                    "app.kubernetes.io/managed-by".to_owned(),
                    manager.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        data: Some([("p.yaml".to_owned(), "{}".to_owned())].into()),
        ..ConfigMap::default()
    };
    admin
        .create(
            &PostParams::default(),
            &map("pawl-policy-taken", "somebody"),
        )
        .await
        .expect("the administrator may");
    admin
        .create(&PostParams::default(), &map("settings", "somebody"))
        .await
        .expect("the administrator may");
    let apply = async |name: &str| {
        let mut map = map(name, "pawl-operator");
        map.metadata.managed_fields = None;
        let params = PatchParams::apply("pawl-operator").force();
        let answer = maps.patch(name, &params, &Patch::Apply(&map)).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    };
    until_refused(|| apply("settings"), "whose name starts with pawl-policy-").await;
    apply("pawl-policy-p").await.expect("this is what it may");
    apply("pawl-policy-p").await.expect("again");
    let refusal = apply("pawl-policy-taken")
        .await
        .expect_err("it is somebody's");
    assert!(refusal.contains("that it made"), "{refusal}");
    let refusal = maps
        .delete("pawl-policy-taken", &DeleteParams::default())
        .await;
    assert!(
        refusal
            .expect_err("it is somebody's")
            .to_string()
            .contains("that it made")
    );
    maps.delete("pawl-policy-p", &DeleteParams::default())
        .await
        .expect("it is its own");

    // Its Lease, and no other.
    let leases: Api<Lease> = Api::namespaced(operator.clone(), NAMESPACE);
    merge(
        &leases,
        "pawl-operator",
        json!({"spec": {"holderIdentity": "a"}}),
    )
    .await
    .expect("its own");
    let others: Api<Lease> = Api::namespaced(operator.clone(), "shop");
    let refused = others.list(&ListParams::default()).await;
    assert!(
        refused
            .expect_err("not its own")
            .to_string()
            .contains("forbidden")
    );

    // Law 8: it never reads Secrets.
    for namespace in [NAMESPACE, "shop"] {
        let secrets: Api<Secret> = Api::namespaced(operator.clone(), namespace);
        let refused = secrets.list(&ListParams::default()).await;
        assert!(
            refused
                .expect_err("law 8")
                .to_string()
                .contains("forbidden"),
            "{namespace}"
        );
    }
    // No other webhook.
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(operator);
    let refused = hooks.get("somebody-elses").await;
    assert!(
        refused
            .expect_err("not its own")
            .to_string()
            .contains("forbidden")
    );
}

/// `pawl-operator check-webhook`, by its own account; no operator runs here, so it never works.
async fn the_check_says_why_the_webhook_is_not_there(cluster: &Cluster, why: &str) {
    let client = cluster.client_as(CHECK);
    let outcome = check(client, NAMESPACE, Duration::from_secs(6)).await;
    let error = outcome.expect_err("nobody answers").to_string();
    assert!(error.contains(why), "{error}");
}

/// The startup check's account tries to make pods; it cannot make one.
async fn the_check_may_only_try(cluster: &Cluster) {
    let check = cluster.client_as(CHECK);
    let pods: Api<Pod> = Api::namespaced(check.clone(), NAMESPACE);
    let tries = std::cell::Cell::new(0);
    let create = || {
        tries.set(tries.get() + 1);
        let pod = serde_json::from_value(pod(&format!("try-{}", tries.get()), &json!({})));
        let pod: Pod = pod.expect("it is a pod");
        let pods = pods.clone();
        async move {
            let answer = pods.create(&PostParams::default(), &pod).await;
            answer.map(|_| ()).map_err(|error| error.to_string())
        }
    };
    until_refused(create, "the check of Pawl's webhook may change nothing").await;
    let pod: Pod = serde_json::from_value(pod("tried", &json!({}))).expect("it is a pod");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&dry, &pod).await.expect("this is what it may");
    let elsewhere: Api<Pod> = Api::namespaced(check.clone(), "shop");
    assert!(elsewhere.create(&dry, &pod).await.is_err());
    let resource = ApiResource::erase::<Secret>(&());
    let secrets: Api<DynamicObject> = Api::namespaced_with(check, NAMESPACE, &resource);
    assert!(secrets.list(&ListParams::default()).await.is_err());
}
