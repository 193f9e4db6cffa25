//! `helm install pawl` and `helm uninstall pawl`.

use std::path::Path;

use pawl_e2e::chart::folder;

use super::{
    injection::policy,
    kube::{Kube, PATIENCE, is_true},
};

pub(super) const NAMESPACE: &str = "pawl-system";

/// The chart with two operators; the check of the chart waits until the API server reaches the webhook.
pub(super) fn install(kube: &Kube) {
    install_chart(kube, &folder("pawl"));
}

/// The same with another chart.
pub(super) fn install_chart(kube: &Kube, chart: &Path) {
    kube.release("pawl", chart, NAMESPACE, "operator.replicas=2", "");
}

/// With 1, 3 and 2 replicas: all are ready, one of them leads, and policies are brought to pods.
pub(super) fn one_replica_leads_however_many_there_are(kube: &Kube) {
    let namespace = "replicas";
    kube.namespace(namespace);
    for replicas in [1, 3, 2] {
        let values = format!("operator.replicas={replicas}");
        kube.release("pawl", &folder("pawl"), NAMESPACE, &values, "");
        kube.until("the leader is one of them", PATIENCE, || {
            let deployment = kube.get(&["deployment", "-n", NAMESPACE, "pawl-operator"]);
            let lease = kube.get(&["lease", "-n", NAMESPACE, "pawl-operator"]);
            let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
            let label = "app.kubernetes.io/component=operator";
            let pods = kube.get(&["pods", "-n", NAMESPACE, "-l", label]);
            let pods: Vec<&str> = pods["items"]
                .as_array()?
                .iter()
                .filter_map(|pod| pod["metadata"]["name"].as_str())
                .collect();
            let is_settled =
                deployment["status"]["readyReplicas"] == replicas && pods.len() == replicas;
            (is_settled && pods.iter().any(|pod| holder.contains(pod))).then_some(())
        });
        let name = format!("with-{replicas}");
        kube.apply(namespace, &policy(&name, "{memory: {}}", ""));
        kube.until("a policy is accepted", PATIENCE, || {
            let policy = kube.get(&["lockpolicy", "-n", namespace, &name]);
            is_true(&policy, "Accepted").then_some(())
        });
        kube.get(&["configmap", "-n", namespace, &format!("pawl-policy-{name}")]);
    }
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

pub(super) fn helm_test_passes(kube: &Kube) {
    kube.helm(&["test", "pawl", "--namespace", NAMESPACE, "--timeout", "2m"])
        .unwrap_or_else(|error| panic!("helm test: {error}"));
}

/// All that names Pawl, in all kinds that a chart can make. The definition is kept, as the values say.
const KINDS: &str = "all,configmaps,secrets,leases,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,\
mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,poddisruptionbudgets,networkpolicies";

pub(super) fn uninstall_leaves_nothing(kube: &Kube) {
    kube.helm(&[
        "uninstall",
        "pawl",
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout",
        "2m",
    ])
    .unwrap_or_else(|error| panic!("helm uninstall: {error}"));
    kube.until("everything of the chart is gone", PATIENCE, || {
        let all = kube.run(&[
            "get",
            KINDS,
            "-A",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/instance=pawl",
        ]);
        all.trim().is_empty().then_some(())
    });
    let left = kube.run(&["get", KINDS, "-n", NAMESPACE, "-o", "name"]);
    let ours: Vec<_> = left.lines().filter(|name| name.contains("/pawl")).collect();
    // The Lease of the leader and what has no namespace are among them.
    assert!(ours.is_empty(), "{ours:?}");
    kube.run(&["get", "crd", "lockpolicies.pawl.dev"]);
    kube.run(&["delete", "crd", "lockpolicies.pawl.dev", "--timeout=60s"]);
}
