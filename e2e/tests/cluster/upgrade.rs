//! `helm upgrade` from the chart of an earlier commit, while locks are taken and pods are made.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use pawl_e2e::cluster::Layout;
use serde_json::Value;

use super::{
    bank, injection, install,
    kube::{Kube, PATIENCE},
    monitoring,
};

/// The chart of an earlier commit; see the README beside it.
fn earlier() -> PathBuf {
    Layout::checkout().join("e2e/cluster/earlier/pawl.tgz")
}

/// What the lock policies' definition says of `lease.idle`; null where it does not know it.
fn idle(kube: &Kube) -> Value {
    let definition = kube.get(&["crd", "lockpolicies.pawl.dev"]);
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["lease"]["properties"]["idle"].clone()
}

/// Names and restarts of the bank's pods and sidecars.
fn pods(kube: &Kube) -> Vec<String> {
    let label = "app.kubernetes.io/component=bank";
    let list = kube.get(&["pods", "-n", bank::NAMESPACE, "-l", label]);
    let pods = list["items"].as_array().into_iter().flatten();
    pods.map(|pod| {
        let status = &pod["status"];
        let restarts = &status["initContainerStatuses"][0]["restartCount"];
        format!("{} {restarts}", pod["metadata"]["uid"])
    })
    .collect()
}

pub(super) fn an_earlier_chart_is_upgraded_under_load(kube: &Kube) {
    monitoring::install(kube);
    let chart = earlier();
    install::install_chart(kube, &chart);
    assert!(idle(kube).is_null());
    bank::install(kube, "sidecar", 2);
    kube.until("deductions run", PATIENCE, || {
        bank::metric(kube, "bank_deductions_total").filter(|count| *count > 20.0)
    });
    let before = (
        pods(kube),
        bank::metric(kube, "bank_expected_balance").unwrap(),
    );

    let is_over = AtomicBool::new(false);
    let made = thread::scope(|scope| {
        let reviews = scope.spawn(|| {
            let mut made = 0;
            while !is_over.load(Ordering::Relaxed) {
                let pod = injection::pod("reviewed", "pawl-demo-postgres-advisory", "");
                let words = [
                    "create",
                    "--dry-run=server",
                    "-n",
                    bank::NAMESPACE,
                    "-f",
                    "-",
                ];
                kube.ask(&words, &pod)
                    .unwrap_or_else(|error| panic!("after {made} pods: {error}"));
                made += 1;
            }
            made
        });
        install::install(kube);
        // Its certificates too are new: all pods of the operator are.
        let deployment = "deployment/pawl-operator";
        kube.run(&["rollout", "restart", "-n", install::NAMESPACE, deployment]);
        kube.run(&[
            "rollout",
            "status",
            "-n",
            install::NAMESPACE,
            deployment,
            "--timeout=120s",
        ]);
        is_over.store(true, Ordering::Relaxed);
        reviews.join().unwrap()
    });
    println!("{made} pods were reviewed during the upgrade and a restart, none in vain");
    assert!(made > 10, "{made}");

    assert!(!idle(kube).is_null(), "the definition is the old one");
    assert_eq!(pods(kube), before.0, "the upgrade touched the pods");
    kube.until("deductions go on", PATIENCE, || {
        bank::metric(kube, "bank_expected_balance").filter(|now| *now < before.1 - 0.5)
    });
    let lost = kube.until("the bank answers", PATIENCE, || {
        bank::metric(kube, "bank_lost_updates_total")
    });
    assert!(lost.abs() < 0.5, "{lost} updates were lost");
    let lost = "sum(pawl_leases_lost_total{namespace=\"bank\",reason!=\"draining\"}) or vector(0)";
    monitoring::until(kube, lost, |lost| lost.abs() < 0.5);
    kube.until("the status follows", PATIENCE, || {
        let policies = kube.get(&["lockpolicies", "-n", bank::NAMESPACE]);
        let pods = &policies["items"][0]["status"]["pods"];
        (pods["current"] == 2 && pods["ready"] == 2).then_some(())
    });
    bank::uninstall(kube);
}
