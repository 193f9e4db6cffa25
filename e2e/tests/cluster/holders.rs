//! Pods that hold a lock and die, hang, are evicted, or lose their policy (S4, S9, S15, O6).

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    injection::{pod, policy},
    kube::{Kube, PATIENCE},
    locks::{acquire, granted, hold, signal},
};

/// Lets the pods of a namespace keep locks in the API server.
pub(super) fn may_use_leases(kube: &Kube, namespace: &str) {
    kube.run(&[
        "create",
        "rolebinding",
        "locks",
        "-n",
        namespace,
        "--clusterrole=pawl-kubernetes-locks",
        &format!("--serviceaccount={namespace}:default"),
    ]);
}

/// Two pods of a policy.
fn two_pods(kube: &Kube, namespace: &str, policies: &str) {
    for name in ["one", "two"] {
        kube.apply(namespace, &pod(name, policies, ""));
    }
    for name in ["one", "two"] {
        kube.ready(namespace, name);
    }
}

/// What the sidecar prints on its way out, with the time of each line in seconds.
fn last_words(mut log: std::process::Child) -> Vec<(f64, String)> {
    let mut text = String::new();
    std::io::Read::read_to_string(log.stdout.as_mut().unwrap(), &mut text).unwrap();
    log.wait().unwrap();
    let lines = text.lines().filter_map(|line| {
        let (time, words) = line.split_once(' ')?;
        let time: k8s_openapi::jiff::Timestamp = time.parse().ok()?;
        Some((time.as_duration().as_secs_f64(), words.to_owned()))
    });
    lines.collect()
}

/// S9, S15. With Leases of the API server and a ttl of a minute: the successor can only have it so soon because it was released.
pub(super) fn an_evicted_holder_hands_over(kube: &Kube) {
    let namespace = "evict";
    kube.namespace(namespace);
    may_use_leases(kube, namespace);
    kube.apply(
        namespace,
        &policy("leases", "{kubernetes: {}}", "lease: {ttl: 1m, maxTtl: 2m}"),
    );
    two_pods(kube, namespace, "leases");
    let first = granted(
        kube,
        namespace,
        "one",
        "-/the-key",
        &json!({"renew": "auto"}),
    );
    let other = acquire(kube, namespace, "two", "-/the-key", &json!({}));
    assert_eq!(other["status"], 423, "{other}");
    let log = kube.follow(namespace, "one", "pawl-sidecar");
    hold_in_background(kube, namespace);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "one", "namespace": namespace},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/one/eviction");
    kube.ask(
        &["create", "--raw", &path, "-f", "-"],
        &eviction.to_string(),
    )
    .unwrap();
    let (at, second) = kube.until("the successor has it", 30, || {
        let log = kube.log(namespace, "two");
        let line = log.lines().find(|line| line.contains("fencingToken"))?;
        let (time, data) = line.split_once(" -/the-key data: ")?;
        let grant: Value = serde_json::from_str(data).unwrap();
        Some((
            time.parse::<f64>().unwrap(),
            grant["fencingToken"].as_u64()?,
        ))
    });
    assert!(second > first, "{second} after {first}");
    let words = last_words(log);
    let (told, _) = words
        .iter()
        .find(|(_, line)| line.contains("draining"))
        .unwrap_or_else(|| panic!("it never drained: {words:?}"));
    let (gone, last) = words.last().unwrap();
    println!(
        "{:.3} s after SIGTERM the successor had the lock, and after {:.3} s the sidecar was gone: {last}",
        at - told,
        gone - told,
    );
    assert!(at - told < 1.0 && gone - told < 1.0, "{words:?}");
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

/// The second pod queues by a stream; nobody waits for its grant.
fn hold_in_background(kube: &Kube, namespace: &str) {
    let script = r#"exec 3> >(exec >/proc/1/fd/1 2>&1; while read -r line; do echo "$EPOCHREALTIME -/the-key $line"; done)
curl -sS -N -X POST -H 'Accept: text/event-stream' -H 'Content-Type: application/json' -d '{"wait": "1m"}' $PAWL_URL/v1/locks/-/the-key >&3 2>&1 </dev/null &"#;
    kube.exec(namespace, "two", script).unwrap();
    kube.until("it queues", PATIENCE, || {
        let log = kube.log(namespace, "two");
        log.contains("event: queued").then_some(())
    });
}

/// S4: the application is killed or hangs while its sidecar lives on.
pub(super) fn a_holder_that_dies_or_hangs_is_followed_by_another(kube: &Kube) {
    let namespace = "dies";
    kube.namespace(namespace);
    may_use_leases(kube, namespace);
    let limits = "lease: {ttl: 10s, maxTtl: 20s, maxHold: 15s}";
    kube.apply(namespace, &policy("leases", "{kubernetes: {}}", limits));
    two_pods(kube, namespace, "leases");
    let wait = json!({"wait": "45s"});
    let mut last = 0;
    for (name, limit) in [("KILL", 10), ("STOP", 15 + 10)] {
        let holder = hold(
            kube,
            namespace,
            "one",
            "-/key",
            &json!({"renew": "auto", "wait": "30s"}),
        );
        let refused = acquire(kube, namespace, "two", "-/key", &json!({}));
        assert_eq!(refused["status"], 423, "{refused}");
        let start = kube.now();
        signal(kube, namespace, "one", name, holder);
        let grant = acquire(kube, namespace, "two", "-/key", &wait);
        let took = kube.now().saturating_since(start);
        let token = grant["fencingToken"].as_u64();
        let token = token.unwrap_or_else(|| panic!("after SIG{name}: {grant}"));
        println!(
            "after SIG{name} of the holder the next had the lock in {:.1} s",
            took.as_secs_f64()
        );
        assert!(
            took < Duration::from_secs(limit),
            "after SIG{name}: {took:?}"
        );
        assert!(token > last, "{token} after {last}");
        last = token;
        let lease = grant["leaseId"].as_str().unwrap();
        let release = format!("curl -sS -X DELETE $PAWL_URL/v1/leases/{lease}?confirm=true");
        kube.exec(namespace, "two", &release).unwrap();
        if name == "STOP" {
            signal(kube, namespace, "one", "CONT", holder);
            kube.until("the one that hung is told", PATIENCE, || {
                let log = kube.log(namespace, "one");
                log.contains("-/key event: lost").then_some(())
            });
        }
        // The next round waits for a line of its own.
        kube.run(&["delete", "pod", "-n", namespace, "one", "--grace-period=1"]);
        kube.apply(namespace, &pod("one", "leases", ""));
        kube.ready(namespace, "one");
    }
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

/// O6: two policies for one pod, of which one is edited and deleted while its locks are held.
pub(super) fn running_leases_keep_their_terms(kube: &Kube) {
    let namespace = "terms";
    kube.namespace(namespace);
    let first = |ttl: &str| policy("first", "{memory: {}}", &format!("lease: {{ttl: {ttl}}}"));
    kube.apply(namespace, &first("10s"));
    kube.apply(namespace, &policy("second", "{memory: {}}", ""));
    kube.apply(namespace, &pod("app", "'first,second'", ""));
    kube.ready(namespace, "app");
    let ambiguous = acquire(kube, namespace, "app", "-/key", &json!({}));
    assert!(
        ambiguous["status"].as_u64() >= Some(400) && ambiguous.to_string().contains("second"),
        "{ambiguous}"
    );
    let manual = json!({"renew": "manual"});
    let old = acquire(kube, namespace, "app", "first/edited", &manual);
    granted(kube, namespace, "app", "second/key", &json!({}));
    kube.apply(namespace, &first("30s"));
    kube.until("the change is live", PATIENCE, || {
        let new = acquire(kube, namespace, "app", "first/new", &manual);
        let lease = new["leaseId"].as_str().unwrap_or("none");
        let release = format!("curl -sS -X DELETE $PAWL_URL/v1/leases/{lease}");
        kube.exec(namespace, "app", &release).unwrap();
        (new["ttlMs"] == 30_000).then_some(())
    });
    let lease = |kube: &Kube, grant: &Value| {
        let id = grant["leaseId"].as_str().unwrap();
        super::locks::json(
            kube,
            namespace,
            "app",
            &format!("curl -sS $PAWL_URL/v1/leases/{id}"),
        )
    };
    let now = lease(kube, &old);
    assert!(
        now["ttlMs"] == 10_000 || now["reason"] == "not_renewed",
        "the lease has other terms than it was granted with: {now}"
    );
    let held = acquire(
        kube,
        namespace,
        "app",
        "first/deleted",
        &json!({"ttl": "30s", "renew": "manual"}),
    );
    assert_eq!(held["ttlMs"], 30_000, "{held}");
    kube.run(&["delete", "lockpolicy", "-n", namespace, "first"]);
    kube.until("new locks are refused", PATIENCE, || {
        let refused = acquire(kube, namespace, "app", "first/other", &json!({}));
        refused["status"].as_u64().filter(|status| *status >= 400)
    });
    let now = lease(kube, &held);
    assert_eq!(now["state"], "held", "it keeps its terms: {now}");
    granted(kube, namespace, "app", "second/other", &json!({}));
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}
