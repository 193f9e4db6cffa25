//! `helm install pawl` and `helm uninstall pawl`.

use std::path::Path;

use pawl_e2e::chart::folder;

use super::kube::{Kube, PATIENCE};

pub(super) const NAMESPACE: &str = "pawl-system";

/// The chart with two operators; the check of the chart waits until the API server reaches the webhook.
pub(super) fn install(kube: &Kube) {
    install_chart(kube, &folder("pawl"));
}

/// The same with another chart.
pub(super) fn install_chart(kube: &Kube, chart: &Path) {
    kube.release("pawl", chart, NAMESPACE, "operator.replicas=2", "");
}

pub(super) fn both_replicas_are_ready_and_one_leads(kube: &Kube) {
    let deployment = kube.get(&["deployment", "-n", NAMESPACE, "pawl-operator"]);
    assert_eq!(deployment["status"]["readyReplicas"], 2, "{deployment}");
    let holder = kube.until("a leader", PATIENCE, || {
        let lease = kube.get(&["lease", "-n", NAMESPACE, "pawl-operator"]);
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        (!holder.is_empty()).then(|| holder.to_owned())
    });
    let pods = kube.run(&["get", "pods", "-n", NAMESPACE, "-o", "name"]);
    assert!(
        pods.lines()
            .any(|pod| holder.contains(pod.trim_start_matches("pod/"))),
        "{holder} is none of {pods}"
    );
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
