//! Who is bound to `pawl-kubernetes-locks`.

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use super::{
    Cluster,
    accounts::{merge, until_refused},
};

pub(super) async fn who_locks_by_leases_may_write_only_those_with_the_prefix(cluster: &Cluster) {
    let role = |kind: &str, name: &str, rules: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "rules": rules}).to_string()
    };
    let bind = |name: &str, kind: &str, account: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{account}-{name}"), "namespace": "shop"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "shop"}],
        })
        .to_string()
    };
    let leases =
        json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}]);
    let exempt = json!([{"apiGroups": ["pawl.dev"], "resources": ["locks"], "resourceNames": ["my-leader"], "verbs": ["exempt"]}]);
    for document in [
        role("Role", "elections", leases),
        role("Role", "my-leader", exempt),
        bind("pawl-kubernetes-locks", "ClusterRole", "app"),
        bind("pawl-kubernetes-locks", "ClusterRole", "leader"),
        bind("my-leader", "Role", "leader"),
        bind("elections", "Role", "other"),
    ] {
        cluster.server.apply(&document).await;
    }
    let leases_of = |account: &str| -> Api<Lease> {
        Api::namespaced(
            cluster.client_as(&format!("system:serviceaccount:shop:{account}")),
            "shop",
        )
    };
    let lease = |name: &str| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    };
    let create = async |account: &str, name: &str| {
        let answer = leases_of(account)
            .create(&PostParams::default(), &lease(name))
            .await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    };
    let admin: Api<Lease> = Api::namespaced(cluster.server.client(), "shop");
    admin
        .create(&PostParams::default(), &lease("elected"))
        .await
        .expect("the administrator may");

    let said = "may write only Leases whose name starts with";
    // By another name each time, should one slip through before the policy is in force.
    let tries = std::cell::Cell::new(0);
    let next = || {
        tries.set(tries.get() + 1);
        let name = format!("try-{}", tries.get());
        async move { create("app", &name).await }
    };
    until_refused(next, said).await;
    create("app", "pawl.jobs.nightly")
        .await
        .expect("this is what it may");
    let app = leases_of("app");
    merge(
        &app,
        "pawl.jobs.nightly",
        json!({"spec": {"holderIdentity": "a"}}),
    )
    .await
    .expect("and renew");
    for refusal in [
        merge(&app, "elected", json!({"spec": {"holderIdentity": "a"}})).await,
        create("app", "my-leader").await,
        create("app", "pawl-operator").await,
        create("leader", "another").await,
    ] {
        let refusal = refusal.expect_err("it has not the prefix");
        assert!(refusal.contains(said), "{refusal}");
    }
    let refusal = app.delete("elected", &DeleteParams::default()).await;
    assert!(
        refusal
            .expect_err("it has not the prefix")
            .to_string()
            .contains(said)
    );
    app.delete("pawl.jobs.nightly", &DeleteParams::default())
        .await
        .expect("its own");

    // Who is exempt for a name, who locks nothing, and administrators are not held up.
    create("leader", "my-leader").await.expect("it is exempt");
    create("leader", "pawl.jobs.other")
        .await
        .expect("and locks");
    create("other", "anything").await.expect("it does not lock");
    admin
        .delete("elected", &DeleteParams::default())
        .await
        .expect("the administrator may");
}
