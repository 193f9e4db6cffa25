//! LockPolicies: accepted, refused, and changed while they are in use.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use pawl_e2e::cluster::Layout;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    injection,
    kube::{Kube, PATIENCE, is_true},
};

pub(super) fn every_example_is_accepted(kube: &Kube) {
    let namespace = "examples";
    kube.namespace(namespace);
    let folder = Layout::checkout().join("docs/examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        kube.apply(namespace, &text);
        let policy: Value = serde_yaml::from_str(&text).unwrap();
        names.push(policy["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        kube.until(&format!("{name} is accepted"), PATIENCE, || {
            let policy = kube.get(&["lockpolicy", "-n", namespace, &name]);
            let is_seen =
                policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
            (is_seen && is_true(&policy, "Accepted")).then_some(())
        });
        let rendered = kube.get(&["configmap", "-n", namespace, &format!("pawl-policy-{name}")]);
        assert_eq!(
            rendered["metadata"]["ownerReferences"][0]["name"],
            name.as_str()
        );
    }
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    base: String,
    set: BTreeMap<String, Value>,
    field: String,
    message: String,
    by: String,
}

/// Those of `crds/testdata/refused.yaml`, as a user applies them. The message of a rule is ours word by word; bounds, types and
/// unknown fields are told in the API server's own words, with the field.
pub(super) fn every_refused_policy_is_refused_with_its_message(kube: &Kube) {
    let namespace = "refused";
    kube.namespace(namespace);
    let testdata = Layout::checkout().join("crds/testdata");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let cases: Vec<Refused> = serde_yaml::from_str(&read(&testdata.join("refused.yaml"))).unwrap();
    let mut wrong = Vec::new();
    // A process each would take minutes; the API server judges each object of a list by itself.
    let rules: Vec<_> = cases
        .iter()
        .filter(|case| case.by == "rule" || case.by == "schema")
        .collect();
    assert!(rules.len() > 80, "{}", rules.len());
    for case in &rules {
        let base = read(&testdata.join(format!("policies/{}.yaml", case.base)));
        let mut document: Value = serde_yaml::from_str(&base).unwrap();
        for (path, value) in &case.set {
            set(&mut document, path, value);
        }
        document["metadata"]["namespace"] = json!(namespace);
        let file = document.to_string();
        match kube.ask(
            &["create", "--dry-run=server", "--validate=false", "-f", "-"],
            &file,
        ) {
            Ok(_) => wrong.push(format!("{}: taken", case.name)),
            Err(said) => {
                let is_told = case.by != "rule" || said.contains(&case.message);
                let last = case.field.rsplit('.').next().unwrap_or_default();
                let last = last.split('[').next().unwrap_or_default();
                if !is_told || !said.contains(last) {
                    wrong.push(format!("{}: {said}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sets a field of a dotted path; null takes it away.
fn set(document: &mut Value, path: &str, value: &Value) {
    let (parents, last) = path
        .rsplit_once('.')
        .map_or((None, path), |(a, b)| (Some(a), b));
    let mut place = document;
    for name in parents.into_iter().flat_map(|parents| parents.split('.')) {
        if place.get(name).is_none() {
            place[name] = json!({});
        }
        place = &mut place[name];
    }
    if value.is_null() {
        place.as_object_mut().unwrap().remove(last);
    } else {
        place[last] = value.clone();
    }
}

/// The claim of DESIGN 6: seen by the application within 5 s, and told in the status, without a restart.
pub(super) fn a_change_is_live_within_five_seconds(kube: &Kube) {
    let namespace = "edit";
    kube.namespace(namespace);
    kube.apply(
        namespace,
        &injection::policy("edited", "{memory: {}}", "lease: {ttl: 10s}"),
    );
    kube.apply(namespace, &injection::pod("app", "edited", ""));
    kube.ready(namespace, "app");
    let ttl = || {
        let answer = kube
            .exec(
                namespace,
                "app",
                "curl -sS -X POST $PAWL_URL/v1/locks/edited/key-$RANDOM$RANDOM",
            )
            .unwrap();
        let grant: Value = serde_json::from_str(&answer).unwrap();
        grant["ttlMs"].clone()
    };
    assert_eq!(ttl(), 10_000);
    for seconds in [20, 30, 40] {
        let start = kube.now();
        let patch = json!({"spec": {"lease": {"ttl": format!("{seconds}s")}}}).to_string();
        kube.run(&[
            "patch",
            "lockpolicy",
            "-n",
            namespace,
            "edited",
            "--type=merge",
            "-p",
            &patch,
        ]);
        kube.until("the change is live", 30, || {
            (ttl() == seconds * 1000).then_some(())
        });
        let took = kube.now().saturating_since(start);
        println!(
            "a change of the policy was live after {:.1} s",
            took.as_secs_f64()
        );
        assert!(took <= Duration::from_secs(5), "{took:?}");
    }
    kube.until("the status tells it", PATIENCE, || {
        let policy = kube.get(&["lockpolicy", "-n", namespace, "edited"]);
        let is_seen = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        let pods = &policy["status"]["pods"];
        let are_there = ["bound", "current", "ready"]
            .iter()
            .all(|count| pods[*count] == 1);
        (is_seen && are_there && is_true(&policy, "Propagated") && is_true(&policy, "Ready"))
            .then_some(())
    });
    let pod = kube.get(&["pod", "-n", namespace, "app"]);
    assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 0);
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}
