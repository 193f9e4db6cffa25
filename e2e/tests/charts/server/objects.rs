//! The API server takes every object that the charts render.

use std::collections::BTreeSet;

use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, ValidationDirective},
    discovery::{Discovery, Scope},
};
use pawl_e2e::chart::{ALL, folder, helm::documents, read, root};
use serde_json::Value;

use super::Cluster;

/// The rendered objects with the kinds that the API server knows by itself, and Pawl's.
#[tokio::test]
async fn the_api_server_takes_every_object_of_every_set_of_values() {
    let cluster = Cluster::bare().await;
    cluster.server.install_crds().await;
    for namespace in ["team-a", "team-b"] {
        cluster.server.namespace(namespace).await;
    }
    let client = cluster.server.client();
    let served = Discovery::new(client.clone())
        .run()
        .await
        .expect("it tells what it serves");
    let mut taken = BTreeSet::new();
    for chart in ALL {
        for entry in std::fs::read_dir(folder(chart).join("testdata")).expect("it is there") {
            let path = entry.expect("the folder can be read").path();
            if !path.to_string_lossy().ends_with(".values.yaml") {
                continue;
            }
            let values = path.display().to_string();
            for object in cluster.helm.objects(chart, &["--values", &values]) {
                let kind = object["kind"]
                    .as_str()
                    .expect("an object has a kind")
                    .to_owned();
                if ["cert-manager.io/v1", "monitoring.coreos.com/v1"]
                    .iter()
                    .any(|foreign| object["apiVersion"] == *foreign)
                {
                    continue;
                }
                let name = object["metadata"]["name"].clone();
                dry_run(&client, &served, object)
                    .await
                    .unwrap_or_else(|error| panic!("{values}: {kind} {name}: {error}"));
                taken.insert(kind);
            }
        }
    }
    let expected = [
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "Job",
        "Lease",
        "LockPolicy",
        "MutatingWebhookConfiguration",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    let missing: Vec<_> = expected
        .iter()
        .filter(|kind| !taken.contains(**kind))
        .collect();
    assert!(missing.is_empty(), "no set of values renders {missing:?}");
}

/// The examples of the documentation, as their readers apply them.
#[tokio::test]
async fn the_api_server_takes_every_example() {
    let cluster = Cluster::bare().await;
    cluster.server.install_crds().await;
    let client = cluster.server.client();
    let served = Discovery::new(client.clone())
        .run()
        .await
        .expect("it tells what it serves");
    let folder = root().join("docs/examples");
    let mut taken = 0;
    for entry in std::fs::read_dir(folder).expect("there are examples") {
        let path = entry.expect("the folder can be read").path();
        for mut object in documents(&read(&path)) {
            object["metadata"]["namespace"] = "shop".into();
            dry_run(&client, &served, object)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            taken += 1;
        }
    }
    assert!(taken >= 6, "only {taken} examples");
}

/// Applies without storing, with unknown fields refused.
async fn dry_run(client: &Client, served: &Discovery, object: Value) -> kube::Result<()> {
    let object: DynamicObject = serde_json::from_value(object).expect("it is an object");
    let types = object.types.clone().expect("an object says its kind");
    let kind = kube::core::GroupVersionKind::try_from(types).expect("apiVersion is one");
    let (resource, capabilities) = served
        .resolve_gvk(&kind)
        .unwrap_or_else(|| panic!("{kind:?} is not served"));
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().expect("the charts name their namespace");
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    };
    let mut params = PatchParams::apply("pawl-e2e").dry_run().force();
    params.field_validation = Some(ValidationDirective::Strict);
    api.patch(&object.name_any(), &params, &Patch::Apply(&object))
        .await?;
    Ok(())
}
