//! What a release leaves alone, and what it leaves behind.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams, PostParams},
    discovery::{Discovery, verbs},
};
use pawl_e2e::server::certs::Authority;
use tokio::time::{Instant, sleep};

use super::{Cluster, accounts::OPERATOR};

/// What the API server serves. A group that goes with its definition, between the list of groups and the question for this one, is not
/// found; then all is asked again.
async fn served(client: &Client) -> Discovery {
    let start = Instant::now();
    loop {
        match Discovery::new(client.clone()).run().await {
            Ok(served) => return served,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                assert!(start.elapsed() < Duration::from_secs(30), "{status}");
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("it tells what it serves: {error}"),
        }
    }
}

/// Everything that is stored and was not made by the API server itself, as `resource namespace/name`.
async fn everything(client: &Client) -> BTreeSet<String> {
    let served = served(client).await;
    let mut all = BTreeSet::new();
    for group in served.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            // An APIService comes and goes with its definition, in its own time.
            if !capabilities.supports_operation(verbs::LIST)
                || ["Event", "APIService"].contains(&resource.kind.as_str())
            {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let Ok(list) = api.list(&ListParams::default()).await else {
                continue;
            };
            for object in list {
                let place = object.namespace().unwrap_or_default();
                all.insert(format!("{} {place}/{}", resource.plural, object.name_any()));
            }
        }
    }
    all
}

#[tokio::test]
async fn uninstall_leaves_nothing_but_what_was_asked_for() {
    let cluster = Cluster::bare().await;
    let client = cluster.server.client();
    let before = everything(&client).await;
    cluster.helm("install", "pawl", &[]);
    cluster.helm(
        "install",
        "pawl-demo",
        &["--set", "load.enabled=true,policy.backend=redis"],
    );
    let during = everything(&client).await;
    for object in [
        "deployments pawl-system/pawl-operator",
        "leases pawl-system/pawl-operator",
        "mutatingwebhookconfigurations /pawl-inject",
        "services pawl-system/pawl-webhook",
        "clusterroles /pawl-kubernetes-locks",
        "lockpolicies bank/pawl-demo-redis",
        "statefulsets bank/pawl-demo-redis",
    ] {
        assert!(
            during.contains(object),
            "{object} is not there: {during:#?}"
        );
    }
    cluster.uninstall("pawl-demo");
    cluster.uninstall("pawl");
    let left = gone_but(
        &client,
        &before,
        &["customresourcedefinitions /lockpolicies.pawl.dev"],
    )
    .await;
    assert_eq!(left, ["customresourcedefinitions /lockpolicies.pawl.dev"]);

    // A definition that was kept is taken over by the next installation, and goes when that is asked for.
    cluster.helm("install", "pawl", &["--set", "crds.keep=false"]);
    cluster.uninstall("pawl");
    assert_eq!(gone_but(&client, &before, &[]).await, Vec::<String>::new());
}

/// What is there and was not before, once nothing more goes than `expected`.
async fn gone_but(client: &Client, before: &BTreeSet<String>, expected: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    for _ in 0..100 {
        let now = everything(client).await;
        left = now.difference(before).cloned().collect();
        if left == expected {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    left
}

/// The webhook's authorities are the operator's: neither an upgrade nor a change of values takes them away.
#[tokio::test]
async fn an_upgrade_keeps_the_authority_that_the_operator_published() {
    let cluster = Cluster::installed().await;
    let operator = cluster.client_as(OPERATOR);
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(operator);
    let mut hook = hooks
        .get("pawl-inject")
        .await
        .expect("the operator may read it");
    let authority = k8s_openapi::ByteString(Authority::new("one").certificate().into_bytes());
    hook.webhooks.as_mut().expect("it has one")[0]
        .client_config
        .ca_bundle = Some(authority.clone());
    hooks
        .replace("pawl-inject", &PostParams::default(), &hook)
        .await
        .expect("the operator may write it");
    cluster.helm(
        "upgrade",
        "pawl",
        &["--set", "webhook.timeoutSeconds=7,operator.replicas=3"],
    );
    let hook = hooks
        .get("pawl-inject")
        .await
        .expect("the operator may read it");
    let hook = &hook.webhooks.expect("it has one")[0];
    assert_eq!(hook.timeout_seconds, Some(7));
    assert_eq!(hook.client_config.ca_bundle.as_ref(), Some(&authority));
}
