//! The demo's chart: money is lost without a lock, and kept with Pawl, under load and while it is scaled.

use pawl_e2e::cluster::images::{POSTGRES, REDIS};

use super::kube::{Kube, PATIENCE};

const NAMESPACE: &str = "bank";

/// Those of the images, whose tags look like numbers.
const TAGS: &str = "postgres.image.tag=1,redis.image.tag=1";

fn values(mode: &str, replicas: u32) -> String {
    let image = |name: &str| {
        let (repository, _) = name.rsplit_once(':').unwrap();
        repository.to_owned()
    };
    let (postgres, redis) = (image(POSTGRES), image(REDIS));
    format!(
        "bank.lockMode={mode},bank.replicas={replicas},load.enabled=true,load.rate=20,\
         postgres.image.repository={postgres},\
         redis.image.repository={redis}"
    )
}

/// A number of the bank's metrics, through the API server, which every cluster can do.
fn metric(kube: &Kube, name: &str) -> Option<f64> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/pawl-demo:http/proxy/metrics");
    let text = kube.ask(&["get", "--raw", &path], "").ok()?;
    let values = text.lines().filter(|line| line.starts_with(name));
    let numbers = values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Some(numbers.sum())
}

pub(super) fn money_is_lost_without_a_lock(kube: &Kube) {
    kube.release("pawl-demo", NAMESPACE, &values("none", 3), TAGS);
    let lost = kube.until("an update is lost", PATIENCE, || {
        metric(kube, "bank_lost_updates_total").filter(|lost| *lost > 0.0)
    });
    println!("{lost} updates were lost without a lock");
    kube.helm(&["uninstall", "pawl-demo", "--namespace", NAMESPACE, "--wait"])
        .unwrap();
}

pub(super) fn nothing_is_lost_while_scaled_one_five_two(kube: &Kube) {
    kube.release("pawl-demo", NAMESPACE, &values("sidecar", 1), TAGS);
    // Of the books, whichever replica answers.
    let expected = || metric(kube, "bank_expected_balance");
    for replicas in ["1", "5", "2"] {
        kube.run(&[
            "scale",
            "-n",
            NAMESPACE,
            "deployment/pawl-demo",
            "--replicas",
            replicas,
        ]);
        kube.run(&[
            "rollout",
            "status",
            "-n",
            NAMESPACE,
            "deployment/pawl-demo",
            "--timeout=120s",
        ]);
        let before = kube.until("the bank answers", PATIENCE, expected);
        kube.until("deductions go on", PATIENCE, || {
            expected().filter(|now| (now - before).abs() > 0.5)
        });
        let lost = kube.until("the bank answers", PATIENCE, || {
            metric(kube, "bank_lost_updates_total")
        });
        assert!(
            lost.abs() < 0.5,
            "{lost} updates were lost with {replicas} replicas"
        );
    }
    let balance = kube.until("the books", PATIENCE, || metric(kube, "bank_balance"));
    println!("nothing lost while scaled 1, 5, 2; the balance is {balance}");
    kube.until("every pod is counted", PATIENCE, || {
        let policy = kube.get(&["lockpolicies", "-n", NAMESPACE]);
        let pods = &policy["items"][0]["status"]["pods"];
        (pods["bound"] == 2 && pods["current"] == 2).then_some(())
    });
    kube.helm(&["uninstall", "pawl-demo", "--namespace", NAMESPACE, "--wait"])
        .unwrap();
}
