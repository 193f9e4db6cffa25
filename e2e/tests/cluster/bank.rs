//! The demo's chart: money is lost without a lock, and kept with Pawl, under load and while it is scaled.

use pawl_e2e::{
    chart::folder,
    cluster::images::{POSTGRES, REDIS},
};

use super::{
    kube::{Kube, PATIENCE},
    monitoring,
};

pub(super) const NAMESPACE: &str = "bank";

/// Those of the images, whose tags look like numbers.
const TAGS: &str = "postgres.image.tag=1,redis.image.tag=1";

fn values(mode: &str, replicas: u32) -> String {
    let image = |name: &str| {
        let (repository, _) = name.rsplit_once(':').unwrap();
        repository.to_owned()
    };
    let (postgres, redis) = (image(POSTGRES), image(REDIS));
    // Without a lock they have to meet; with one, they have to get through.
    let rate = if mode == "none" { 100 } else { 20 };
    format!(
        "bank.lockMode={mode},bank.replicas={replicas},load.enabled=true,load.rate={rate},\
         postgres.image.repository={postgres},\
         redis.image.repository={redis}"
    )
}

/// The bank with its database, and deductions all the time.
pub(super) fn install(kube: &Kube, mode: &str, replicas: u32) {
    let chart = folder("pawl-demo");
    kube.release(
        "pawl-demo",
        &chart,
        NAMESPACE,
        &values(mode, replicas),
        TAGS,
    );
}

/// Takes it away, with its pods: a bank that is installed next would find the old database, on its way out.
pub(super) fn uninstall(kube: &Kube) {
    kube.helm(&["uninstall", "pawl-demo", "--namespace", NAMESPACE, "--wait"])
        .unwrap();
    kube.until("its pods are gone", PATIENCE, || {
        let pods = kube.run(&["get", "pods", "-n", NAMESPACE, "-o", "name"]);
        pods.trim().is_empty().then_some(())
    });
}

/// A number of the bank's metrics.
pub(super) fn metric(kube: &Kube, name: &str) -> Option<f64> {
    let text = kube.proxy(NAMESPACE, "pawl-demo:http/metrics")?;
    let values = text.lines().filter(|line| line.starts_with(name));
    let numbers = values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Some(numbers.sum())
}

pub(super) fn money_is_lost_without_a_lock(kube: &Kube) {
    monitoring::install(kube);
    install(kube, "none", 3);
    let lost = kube.until("an update is lost", PATIENCE, || {
        metric(kube, "bank_lost_updates_total").filter(|lost| *lost > 0.0)
    });
    println!("{lost} updates were lost without a lock");
    monitoring::until(
        kube,
        "max(bank_lost_updates_total{namespace=\"bank\"})",
        |lost| lost > 0.5,
    );
    monitoring::until(
        kube,
        "max(bank_balance{namespace=\"bank\"}) - max(bank_expected_balance{namespace=\"bank\"})",
        |too_much| too_much > 0.5,
    );
    uninstall(kube);
}

pub(super) fn nothing_is_lost_while_scaled_one_five_two(kube: &Kube) {
    monitoring::install(kube);
    install(kube, "sidecar", 1);
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
        let there: f64 = replicas.parse().unwrap();
        let sidecars = "sum(up{job=\"sidecars\",namespace=\"bank\"})";
        monitoring::until(kube, sidecars, |found| (found - there).abs() < 0.5);
    }
    let granted = "sum(rate(pawl_lock_acquires_total{namespace=\"bank\",result=\"granted\"}[15s]))";
    let rate = monitoring::until(kube, granted, |rate| rate > 1.0);
    let lost = "max(bank_lost_updates_total{namespace=\"bank\"})";
    monitoring::until(kube, lost, |lost| lost.abs() < 0.5);
    let balance = kube.until("the books", PATIENCE, || metric(kube, "bank_balance"));
    println!(
        "nothing lost while scaled 1, 5, 2, at {rate:.0} locks a second; the balance is {balance}"
    );
    kube.until("no alert fires", PATIENCE, || {
        monitoring::firing(kube, "namespace=\"bank\"")
            .is_empty()
            .then_some(())
    });
    kube.until("every pod is counted", PATIENCE, || {
        let policy = kube.get(&["lockpolicies", "-n", NAMESPACE]);
        let pods = &policy["items"][0]["status"]["pods"];
        (pods["bound"] == 2 && pods["current"] == 2).then_some(())
    });
    uninstall(kube);
}

/// README's path: the same bank, its locks kept elsewhere each time, and no money lost. The scaled one has `postgres-advisory`.
pub(super) fn nothing_is_lost_with_any_backend(kube: &Kube) {
    for backend in ["postgres-row", "redis", "redlock", "kubernetes"] {
        let chart = folder("pawl-demo");
        let values = format!("{},policy.backend={backend}", values("sidecar", 3));
        kube.release("pawl-demo", &chart, NAMESPACE, &values, TAGS);
        let before = kube.until("the bank answers", PATIENCE, || {
            metric(kube, "bank_expected_balance")
        });
        // A node of a Redlock counts only once it has been up for as long as a lease may last.
        let now = kube.until("deductions run", PATIENCE, || {
            metric(kube, "bank_expected_balance").filter(|now| *now < before - 30.0)
        });
        let lost = kube.until("the bank answers", PATIENCE, || {
            metric(kube, "bank_lost_updates_total")
        });
        println!("{backend}: {} deductions, {lost} lost", before - now);
        assert!(lost.abs() < 0.5, "{backend}: {lost} updates were lost");
    }
    uninstall(kube);
}
