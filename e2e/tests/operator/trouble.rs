//! The API server in trouble, and objects that make no sense.

use std::time::Duration;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use pawl_e2e::server::kubernetes::{Front, Trouble};
use serde_json::json;
use tokio::time::sleep;

use super::world::{World, condition};

/// The definition is made to let everything through, as another version's might.
#[tokio::test]
async fn one_bad_object_never_stops_the_others() {
    let world = World::new().await;
    world.server.namespace("shop").await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lockpolicies.pawl.dev"},
        "spec": {
            "group": "pawl.dev", "scope": "Namespaced",
            "names": {"kind": "LockPolicy", "plural": "lockpolicies", "singular": "lockpolicy"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    world.server.apply(&definition.to_string()).await;
    let kind = GroupVersionKind::gvk("pawl.dev", "v1alpha1", "LockPolicy");
    let raw: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), "shop", &ApiResource::from_gvk(&kind));
    let put = async |name: &str, rest: serde_json::Value| {
        let mut object = json!({
            "apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy", "metadata": {"name": name},
        });
        for (field, value) in rest.as_object().unwrap() {
            object[field] = value.clone();
        }
        let params = PatchParams::apply("tests").force();
        raw.patch(name, &params, &Patch::Apply(object))
            .await
            .unwrap();
    };
    let accepted = async |name: &str, expected: &str| {
        for _ in 0..3000 {
            let object = raw.get(name).await.unwrap();
            if condition(&object.data["status"], "Accepted") == expected {
                return object.data["status"].clone();
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} is never {expected}");
    };
    put("empty", json!({})).await;
    put("list", json!({"spec": [1, 2, 3]})).await;
    put("text", json!({"spec": "nonsense", "status": "nonsense"})).await;
    put(
        "newer",
        json!({"spec": {"backend": {"memory": {}}, "quorum": 3}}),
    )
    .await;
    put("good", json!({"spec": {"backend": {"memory": {}}}})).await;
    let _operator = world.running().await;
    accepted("good", "True/Valid").await;
    let status = accepted("newer", "False/Invalid").await;
    assert!(status.to_string().contains("spec.quorum"), "{status}");
    for name in ["empty", "list", "text"] {
        accepted(name, "False/Invalid").await;
    }
    put("later", json!({"spec": {"backend": {"memory": {}}}})).await;
    accepted("later", "True/Valid").await;
}

/// Errors of every kind, and then all is as it was; what happened meanwhile is caught up with.
#[tokio::test]
async fn the_operator_outlives_an_api_server_in_trouble() {
    let world = World::new().await;
    world.server.namespace("shop").await;
    let front = Front::start(&world.server).await;
    let operator = world.operator_at("pawl-operator-a", &front.url());
    operator.ready().await;
    operator.until_it_leads().await;
    let spec = json!({"backend": {"memory": {}}});
    for (n, status) in [500, 429, 410, 503].into_iter().enumerate() {
        front.set(Some(Trouble {
            status,
            retry_after: Some(1),
            is_late: false,
        }));
        let name = format!("during-{n}");
        world.policy("shop", &name, &spec).await;
        sleep(Duration::from_secs(2)).await;
        assert!(!operator.process.has_ended(), "{}", operator.process.log());
        front.set(None);
        world
            .until_policy("shop", &name, "accepted", |status| {
                condition(status, "Accepted") == "True/Valid"
            })
            .await;
    }
    // Gone and back, with its watches cut.
    world.server.kill();
    sleep(Duration::from_secs(1)).await;
    world.server.start_again();
    world.policy("shop", "after", &spec).await;
    world
        .until_policy("shop", "after", "accepted", |status| {
            condition(status, "Accepted") == "True/Valid"
        })
        .await;
    assert!(!operator.process.has_ended(), "{}", operator.process.log());
}
