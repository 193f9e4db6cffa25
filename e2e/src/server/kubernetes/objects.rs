//! Putting objects there.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::KubernetesServer;

/// How long a definition may take to be served.
const PATIENCE: Duration = Duration::from_secs(30);

impl KubernetesServer {
    /// Applies YAML documents, as `kubectl apply --server-side --force-conflicts` does, and waits until
    /// custom resource definitions among them are served.
    ///
    /// # Panics
    /// If one is not an object or the server refuses it.
    pub async fn apply(&self, documents: &str) {
        apply(&self.client(), documents).await;
    }

    /// Makes sure that a namespace is there.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn namespace(&self, name: &str) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        });
        self.apply_values(&[namespace]).await;
    }

    /// Installs the definitions of Pawl's own resources.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn install_crds(&self) {
        self.apply(include_str!("../../../../crds/lockpolicies.pawl.dev.yaml"))
            .await;
    }

    pub(super) async fn apply_values(&self, objects: &[Value]) {
        apply_values(&self.client(), objects).await;
    }
}

/// Applies YAML documents through a client, as `kubectl apply --server-side --force-conflicts` does, and waits until custom
/// resource definitions among them are served.
///
/// # Panics
/// If one is not an object or the server refuses it.
pub async fn apply(client: &Client, documents: &str) {
    apply_values(client, &documents_of(documents)).await;
}

/// The same for objects.
///
/// # Panics
/// If one is not an object or the server refuses it.
pub async fn apply_values(client: &Client, objects: &[Value]) {
    for object in objects {
        let object = serde_json::from_value(object.clone()).expect("it is an object");
        apply_one(client, &object).await;
    }
}

fn documents_of(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("it is YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

async fn apply_one(client: &Client, object: &DynamicObject) {
    let types = object.types.clone().expect("an object says its kind");
    let kind = GroupVersionKind::try_from(types).expect("apiVersion is one");
    let name = object.name_any();
    let start = Instant::now();
    // A definition may be established a moment before its kind is shown.
    let (resource, capabilities) = loop {
        match pinned_kind(client, &kind).await {
            Ok(found) => break found,
            Err(error) if start.elapsed() > PATIENCE => {
                panic!("{} is not served: {error}", kind.kind)
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    };
    let params = PatchParams::apply("pawl-e2e").force();
    api.patch(&name, &params, &Patch::Apply(object))
        .await
        .unwrap_or_else(|error| panic!("{} {name} is refused: {error}", kind.kind));
    if kind.kind == "CustomResourceDefinition" {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let established = await_condition(definitions, &name, is_crd_established());
        tokio::time::timeout(PATIENCE, established)
            .await
            .expect("it is served in time")
            .expect("it can be watched");
    }
}
