//! What several tests need.

use std::{collections::BTreeMap, sync::Arc};

use pawl_crds::LockPolicy;
use serde_json::{Value, json};

use super::{Config, Policies, PullPolicy};

/// Namespace of every policy here.
pub(super) const NAMESPACE: &str = "bank";

/// Policies in a map.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Arc<LockPolicy>>);

impl Policies for Known {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<LockPolicy>> {
        let found = (namespace == NAMESPACE).then(|| self.0.get(name));
        found.flatten().cloned()
    }
}

pub(super) fn policy(name: &str, backend: Value, sidecar: Value) -> Arc<LockPolicy> {
    let policy = json!({
        "apiVersion": "pawl.dev/v1alpha1",
        "kind": "LockPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"backend": backend, "sidecar": sidecar},
    });
    Arc::new(serde_json::from_value(policy).unwrap())
}

pub(super) fn config() -> Config {
    let secret = |name: &str| json!({"name": name});
    let redis = json!({"redis": {
        "sentinel": {"masterName": "m", "nodes": ["s:26379"], "credentialsSecretRef": secret("sentinel")},
        "credentialsSecretRef": secret("redis"),
        "tls": {"caSecretRef": secret("redis-ca"), "clientCertSecretRef": secret("redis-client")}},
    });
    let policies = [
        policy("jobs", json!({"memory": {}}), json!({})),
        policy(
            "payments",
            redis,
            json!({"auth": "Token", "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}}),
        ),
        policy(
            "leases",
            json!({"kubernetes": {}}),
            json!({"resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "512Mi"}}}),
        ),
        policy(
            "tree",
            json!({"zookeeper": {"servers": ["zk:2181"], "credentialsSecretRef": secret("zk")}}),
            json!({}),
        ),
    ];
    let named = policies.map(|policy| (policy.metadata.name.clone().unwrap(), policy));
    Config {
        image: "ghcr.io/pawl-dev/pawl-sidecar:1.2.3".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        version: "1.2.3".to_owned(),
        policies: Arc::new(Known(named.into_iter().collect())),
    }
}

/// A pod of one container that asks for the policy `jobs`.
pub(super) fn minimal() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "app-",
            "labels": {"pawl.dev/inject": "true"},
            "annotations": {"pawl.dev/policies": "jobs"},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

/// A review that asks about this pod.
pub(super) fn review_of(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74-9cb7-44dd-b98e-09fd62def2f4",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
        },
    })
}
