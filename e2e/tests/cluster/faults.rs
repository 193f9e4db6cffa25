//! What happens to locks when the operator is gone (O1, O3) or stands still (O2), and when the API server is gone (K1).

use std::{fs, thread::sleep, time::Duration};

use pawl_e2e::cluster::processes::{self, component};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    holders::may_use_leases,
    injection::{pod, policy},
    install,
    kube::{Kube, PATIENCE},
    locks::{acquire, granted, hold},
    monitoring,
};

/// K1: leases in the API server are lost in time; those of another backend never hear of it.
pub(super) fn the_api_server_is_gone_for_longer_than_a_lease(kube: &Kube) {
    let Some(cluster) = kube.own() else {
        println!("does not apply: the API server of this cluster is not ours to stop");
        return;
    };
    let namespace = "gone";
    kube.namespace(namespace);
    may_use_leases(kube, namespace);
    let limits = "lease: {ttl: 10s, maxTtl: 20s}";
    kube.apply(namespace, &policy("leases", "{kubernetes: {}}", limits));
    kube.apply(namespace, &policy("local", "{memory: {}}", ""));
    kube.apply(namespace, &pod("app", "'leases,local'", ""));
    kube.ready(namespace, "app");
    let first = granted(kube, namespace, "app", "leases/probe", &json!({}));
    hold(
        kube,
        namespace,
        "app",
        "leases/key",
        &json!({"renew": "auto"}),
    );
    let others = r#"for n in {1..80}; do
code=$(curl -sS -m 3 -o /dev/null -w '%{http_code}' -X POST $PAWL_URL/v1/locks/local/key-$n)
echo "$EPOCHREALTIME local $code"; sleep 0.4; done >/proc/1/fd/1 2>&1 </dev/null &"#;
    kube.exec(namespace, "app", others).unwrap();
    let server = component(&cluster, "kube-apiserver").unwrap();
    processes::signal(server, Signal::STOP);
    sleep(Duration::from_secs(20));
    processes::signal(server, Signal::CONT);
    let log = kube.until("the API server answers", PATIENCE, || {
        kube.ask(&["logs", "-n", namespace, "app", "-c", "app"], "")
            .ok()
    });
    let times = |words: &str| -> Vec<f64> {
        log.lines()
            .filter(|line| line.contains(words))
            .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
            .collect()
    };
    let lost = times("leases/key event: lost");
    assert_eq!(lost.len(), 1, "{log}");
    let good = [
        times("leases/key event: granted"),
        times("leases/key event: renewed"),
    ]
    .concat();
    let last_good = good.into_iter().fold(0.0, f64::max);
    let after = lost[0] - last_good;
    // The deadline counts from before the request, and is a hundredth short; how long the words are on their way is the pod's affair.
    let limit = 10.5;
    assert!(
        after < limit,
        "told {after:.1} s after the last renewal:\n{log}"
    );
    assert!(times("leases/key event: uncertain").len() == 1, "{log}");
    let cycles = times("local 200");
    assert_eq!(cycles.len(), times(" local ").len(), "{log}");
    let slowest = cycles
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max);
    assert!(cycles.len() > 20 && slowest < 3.0, "{slowest} s:\n{log}");
    println!(
        "the lease was lost {after:.1} s after its last renewal; the other backend served {} locks meanwhile, {slowest:.1} s apart at most",
        cycles.len()
    );
    let next = granted(
        kube,
        namespace,
        "app",
        "leases/key",
        &json!({"wait": "10s"}),
    );
    assert!(next > first, "{next} after {first}");
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

/// The name of the pod that leads.
fn leader(kube: &Kube) -> String {
    let lease = kube.get(&["lease", "-n", install::NAMESPACE, "pawl-operator"]);
    lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The operator's process in a pod, as this machine sees it.
fn process_of(pod: &str) -> i32 {
    let name = format!("HOSTNAME={pod}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = ids.find(|id| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let program = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        program.starts_with("pawl-operator")
            && environment
                .split(|byte| *byte == 0)
                .any(|word| word == name.as_bytes())
    });
    found.unwrap_or_else(|| panic!("no process in {pod}"))
}

/// O2: another leads when the leader has stood still for longer than its Lease, and woken it writes nothing.
pub(super) fn a_leader_that_stood_still_writes_nothing(kube: &Kube) {
    if kube.own().is_none() {
        println!("does not apply: the processes of this cluster are not ours to stop");
        return;
    }
    monitoring::install(kube);
    let namespace = "still";
    kube.namespace(namespace);
    kube.apply(namespace, &policy("local", "{memory: {}}", ""));
    let told = |generation: u64| {
        kube.until("the status tells of it", PATIENCE, || {
            let policy = kube.get(&["lockpolicy", "-n", namespace, "local"]);
            (policy["status"]["observedGeneration"] == generation).then_some(policy)
        })
    };
    told(1);
    let first = leader(kube);
    let pod = first.split(['_', '/']).next().unwrap();
    let process = process_of(pod);
    processes::signal(process, Signal::STOP);
    kube.apply(
        namespace,
        &policy("local", "{memory: {}}", "lease: {ttl: 7s}"),
    );
    let policy = told(2);
    let second = leader(kube);
    assert_ne!(first, second);
    processes::signal(process, Signal::CONT);
    monitoring::fires(kube, "alertname=\"PawlOperatorLeaders\"");
    sleep(Duration::from_secs(5));
    assert_eq!(leader(kube), second);
    let now = kube.get(&["lockpolicy", "-n", namespace, "local"]);
    assert_eq!(
        now["metadata"]["resourceVersion"], policy["metadata"]["resourceVersion"],
        "{now}"
    );
    monitoring::until(kube, "sum(pawl_operator_leader)", |leaders| {
        (leaders - 1.0).abs() < 0.5
    });
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

/// Somebody breaks the file that the sidecar reads: the last good policy stays.
fn a_broken_policy_is_not_taken(kube: &Kube, namespace: &str) {
    let name = "pawl-policy-local";
    let mut map = kube.get(&["configmap", "-n", namespace, name]);
    let data = map["data"].as_object_mut().unwrap();
    for text in data.values_mut() {
        *text = Value::from("nonsense: [");
    }
    let patch = json!({"data": data}).to_string();
    kube.run(&[
        "patch",
        "configmap",
        "-n",
        namespace,
        name,
        "--type=merge",
        "-p",
        &patch,
    ]);
    monitoring::fires(
        kube,
        &format!("alertname=\"PawlPolicyRefused\",namespace=\"{namespace}\""),
    );
    let grant = acquire(kube, namespace, "app", "-/other", &json!({}));
    assert!(grant["fencingToken"].is_u64(), "{grant}");
}

/// O1, O3.
pub(super) fn locks_go_on_without_the_operator(kube: &Kube) {
    monitoring::install(kube);
    let namespace = "alone";
    kube.namespace(namespace);
    kube.apply(namespace, &policy("local", "{memory: {}}", ""));
    kube.apply(namespace, &pod("app", "local", ""));
    kube.ready(namespace, "app");
    let scale = |replicas: &str| {
        let deployment = "deployment/pawl-operator";
        kube.run(&[
            "scale",
            "-n",
            install::NAMESPACE,
            deployment,
            "--replicas",
            replicas,
        ]);
    };
    scale("0");
    kube.until("the operators are gone", PATIENCE, || {
        let pods = ["get", "pods", "-n", install::NAMESPACE, "-o", "name"];
        kube.run(&pods).trim().is_empty().then_some(())
    });
    let grant = acquire(kube, namespace, "app", "-/key", &json!({}));
    assert!(grant["fencingToken"].is_u64(), "{grant}");
    monitoring::fires(kube, "alertname=\"PawlOperatorDown\"");
    a_broken_policy_is_not_taken(kube, namespace);
    let refusal = kube
        .ask(
            &["apply", "-n", namespace, "-f", "-"],
            &pod("late", "local", ""),
        )
        .expect_err("a pod with the label is refused");
    assert!(refusal.contains("failed calling webhook"), "{refusal}");
    kube.apply(
        namespace,
        &pod("plain", "local", "").replace("'true'", "'false'"),
    );
    kube.ready(namespace, "plain");
    scale("2");
    kube.until("the broken policy is mended", PATIENCE, || {
        let map = kube.get(&["configmap", "-n", namespace, "pawl-policy-local"]);
        (!map.to_string().contains("nonsense")).then_some(())
    });
    kube.run(&[
        "rollout",
        "status",
        "-n",
        install::NAMESPACE,
        "deployment/pawl-operator",
        "--timeout=120s",
    ]);
    kube.until("pods are taken again", PATIENCE, || {
        kube.ask(
            &["apply", "-n", namespace, "-f", "-"],
            &pod("late", "local", ""),
        )
        .ok()
    });
    kube.ready(namespace, "late");
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}
