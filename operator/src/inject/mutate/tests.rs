use serde_json::{Value, json};

use super::*;
use crate::inject::{
    fixtures::{NAMESPACE, config, minimal},
    refusal::joined,
};

fn refused(pod: &Value) -> String {
    joined(&mutate(&config(), NAMESPACE, pod).unwrap_err())
}

fn apply(pod: &mut Value) -> Vec<String> {
    let mutation = mutate(&config(), NAMESPACE, pod).unwrap();
    json_patch::patch(pod, &mutation.patch).unwrap();
    mutation.warnings
}

fn change(pointer: &str, value: Value) -> Value {
    let mut pod = minimal();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[field] = value;
    pod
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_conflict_names_the_field_and_the_remedy() {
    let container = |more: Value| {
        let mut container = json!({"name": "app", "image": "app:1"});
        json_patch::merge(&mut container, &more);
        change("/spec/containers", json!([container]))
    };
    let mount = |name: &str, path: &str| {
        container(json!({"volumeMounts": [{"name": name, "mountPath": path}]}))
    };
    let os = json!({"kubernetes.io/os": "windows"});
    for (pod, expected) in [
        (
            change("/spec/hostNetwork", json!(true)),
            "spec.hostNetwork: the lock API would be open to all processes of the node; remove hostNetwork",
        ),
        (
            change("/spec/os", json!({"name": "windows"})),
            "spec.os.name: there is no sidecar for Windows; remove the label",
        ),
        (
            change("/spec/nodeSelector", os),
            "spec.nodeSelector[kubernetes.io/os]: there is no sidecar for Windows",
        ),
        (
            change("/spec/containers", json!([{"name": "pawl-sidecar"}])),
            "spec.containers[0]: is named pawl-sidecar",
        ),
        (
            change(
                "/spec/initContainers",
                json!([{"name": "pawl-sidecar", "restartPolicy": "Always"}]),
            ),
            "spec.initContainers[0]: is named pawl-sidecar",
        ),
        (
            change("/spec/volumes", json!([{"name": "pawl-token"}])),
            "spec.volumes: `pawl-token` is a name of the sidecar's volumes; rename",
        ),
        (
            mount("pawl-secrets", "/x"),
            "spec.containers[0].volumeMounts: mounts `pawl-secrets`, which is the sidecar's; remove the mount",
        ),
        (mount("pawl-policies", "/x"), "mounts `pawl-policies`"),
        (mount("pawl-api-access", "/x"), "mounts `pawl-api-access`"),
        (
            mount("data", "/var/run/pawl/token/"),
            "`/var/run/pawl/token/` is where the sidecar's files are; mount it elsewhere",
        ),
        (
            mount("data", "/var/run/pawl/socket/below"),
            "is where the sidecar's files are",
        ),
        (
            mount("pawl-token", "/var/run/pawl/token"),
            "mounts `pawl-token`",
        ),
        (
            container(json!({"ports": [{"containerPort": 4600}]})),
            "pawl.dev/port: spec.containers[0].ports has 4600 too; set pawl.dev/port to a port that is free",
        ),
        (
            container(json!({"ports": [{"containerPort": 4601, "protocol": "TCP"}]})),
            "pawl.dev/admin-port: spec.containers[0].ports has 4601 too",
        ),
        (
            change(
                "/spec/initContainers",
                json!([{"name": "i", "ports": [{"containerPort": 4600}]}]),
            ),
            "spec.initContainers[0].ports has 4600 too",
        ),
        (change("/spec", json!(1)), "spec: is not an object"),
    ] {
        let told = refused(&pod);
        assert!(told.contains(expected), "{told}\ndoes not say\n{expected}");
        assert!(!told.contains(" | "), "one reason: {told}");
    }
    let mut marked = minimal();
    marked["metadata"]["annotations"]["pawl.dev/injected"] = "1".into();
    let told = refused(&marked);
    assert!(
        told.starts_with(
            "pawl.dev/injected: says that the sidecar is there, and it is not; remove"
        ),
        "{told}"
    );
    let mut mirror = minimal();
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
    assert!(refused(&mirror).contains("a static pod"));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let mut pod = change("/spec/hostNetwork", json!(true));
    pod["metadata"]["annotations"] =
        json!({"pawl.dev/policies": "", "pawl.dev/port": "0", "pawl.dev/polices": "x"});
    let told = refused(&pod);
    for part in [
        "pawl.dev/policies: names no policy",
        "pawl.dev/port: `0`",
        "do you mean pawl.dev/policies?",
        "spec.hostNetwork",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(told.matches(" | ").count(), 3, "{told}");
}

#[test]
fn shared_processes_are_warned_about() {
    let mut pod = change("/spec/shareProcessNamespace", json!(true));
    let warnings = apply(&mut pod);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("spec.shareProcessNamespace: "));
}

#[test]
fn a_pod_waits_for_its_policies() {
    let mut pod = minimal();
    pod["metadata"]["annotations"]["pawl.dev/policies"] = "later,jobs,never".into();
    let told = |namespace: &str, pod: &Value| {
        let refusals = mutate(&config(), namespace, pod).unwrap_err();
        joined(&refusals)
    };
    let both = told(NAMESPACE, &pod);
    assert!(
        both.starts_with("pawl.dev/policies: there is no valid LockPolicy `later` in namespace bank; create it first"),
        "{both}"
    );
    assert!(
        both.contains("`never`") && !both.contains("`jobs`"),
        "{both}"
    );
    // Policies of other namespaces do not count.
    assert!(told("other", &minimal()).contains("`jobs` in namespace other"));
}

#[test]
fn secrets_reach_the_sidecar_only() {
    let mut pod = change("/spec/initContainers", json!([{"name": "init"}]));
    pod["metadata"]["annotations"]["pawl.dev/policies"] = "payments,leases".into();
    apply(&mut pod);
    for container in Pod::try_new(&pod).unwrap().containers() {
        let mounts: Vec<&str> = container
            .mounts()
            .iter()
            .filter_map(|m| m["name"].as_str())
            .collect();
        if container.is_named_as_ours() {
            assert_eq!(container.path(), "spec.initContainers[0]");
            assert_eq!(
                mounts,
                [
                    "pawl-policies",
                    "pawl-secrets",
                    "pawl-token",
                    "pawl-api-access"
                ]
            );
        } else {
            assert_eq!(mounts, ["pawl-token"]);
            assert_eq!(container.mounts()[0]["readOnly"], true);
        }
    }
}

#[test]
fn a_container_that_comes_later_gets_what_it_lacks_and_no_more() {
    let mut pod = minimal();
    pod["metadata"]["annotations"]["pawl.dev/policies"] = "payments".into();
    pod["metadata"]["annotations"]["pawl.dev/port"] = "5600".into();
    apply(&mut pod);
    let done = pod.clone();
    // Another webhook changes what we go by, puts a container before ours and one after the application's.
    pod["metadata"]["annotations"]["pawl.dev/port"] = "5700".into();
    pod["metadata"]["annotations"]["pawl.dev/policies"] = "jobs".into();
    let init = pod["spec"]["initContainers"].as_array_mut().unwrap();
    init.insert(0, json!({"name": "first"}));
    let sidecar = init[1].clone();
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "late"}));
    apply(&mut pod);
    assert_eq!(pod["spec"]["initContainers"][1], sidecar);
    assert_eq!(pod["spec"]["containers"][0], done["spec"]["containers"][0]);
    for late in [
        &pod["spec"]["containers"][1],
        &pod["spec"]["initContainers"][0],
    ] {
        assert_eq!(
            late["env"][0],
            json!({"name": "PAWL_URL", "value": "http://127.0.0.1:5600"})
        );
        assert_eq!(late["env"][1]["name"], "PAWL_TOKEN_FILE");
        assert_eq!(late["volumeMounts"][0]["name"], "pawl-token");
    }
    assert_eq!(pod["spec"]["volumes"], done["spec"]["volumes"]);
    assert!(
        mutate(&config(), NAMESPACE, &pod)
            .unwrap()
            .patch
            .0
            .is_empty()
    );
}

#[test]
fn a_pod_that_is_done_is_still_kept_from_the_sidecars_secrets() {
    let mut pod = minimal();
    pod["metadata"]["annotations"]["pawl.dev/policies"] = "payments".into();
    apply(&mut pod);
    let mount = json!({"name": "pawl-secrets", "mountPath": "/x"});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "late", "volumeMounts": [mount]}));
    assert!(refused(&pod).contains("spec.containers[1].volumeMounts: mounts `pawl-secrets`"));
}

#[test]
fn lists_that_are_null_or_empty_are_filled() {
    let mut pod = minimal();
    pod["spec"]["volumes"] = Value::Null;
    pod["spec"]["initContainers"] = json!([]);
    pod["spec"]["containers"][0]["env"] = Value::Null;
    apply(&mut pod);
    assert_eq!(pod["spec"]["volumes"][0]["name"], "pawl-policies");
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "pawl-sidecar");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "PAWL_URL");
}
