//! The server of these tests is what it says.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use pawl_e2e::server::kubernetes::{Access, KubernetesServer};
use serde_json::json;

/// Accounts may do what their rules say and nothing else; what was stored outlives a crash; the definitions of Pawl
/// are served and refuse what they refuse.
#[tokio::test]
async fn the_server_stores_and_refuses_as_kubernetes_does() {
    let server = KubernetesServer::start();
    server.install_crds().await;
    let access = Access::default().allow("coordination.k8s.io", &["leases"], &["list"]);
    let account = server.account("team-a", "app", &access).await;
    let client = server.client_of(&account);
    let leases: Api<Lease> = Api::namespaced(client.clone(), "team-a");
    assert_eq!(
        leases
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    let refused = leases
        .create(&PostParams::default(), &Lease::default())
        .await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
    let elsewhere: Api<Pod> = Api::namespaced(client, "default");
    assert!(elsewhere.list(&ListParams::default()).await.is_err());

    let policy = |name: &str, backend: serde_json::Value| {
        let spec = json!({"purpose": "Efficiency", "backend": backend});
        json!({"apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy",
            "metadata": {"name": name, "namespace": "team-a"}, "spec": spec})
        .to_string()
    };
    server
        .apply(&policy("good", json!({"kubernetes": {}})))
        .await;
    server.crash_and_restart();
    let policies: Api<pawl_crds::LockPolicy> = Api::namespaced(server.client(), "team-a");
    let names: Vec<_> = policies
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(|p| p.name_any())
        .collect();
    assert_eq!(names, ["good"]);
}
