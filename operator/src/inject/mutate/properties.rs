//! For every pod: only additions, once, and nothing of the user is lost.

use json_patch::PatchOperation;
use pawl_crds::names::{annotations::INJECTED, env};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::mutate;
use crate::inject::{
    fixtures::{NAMESPACE, config},
    volumes::ALL,
};

fn variable() -> impl Strategy<Value = Value> {
    let name = select(vec!["A", "B", "PAWL_URL", "PAWL_TOKEN_FILE", "PAWL_SOCKET"]);
    (name, "[a-z~/]{0,4}").prop_map(|(name, value)| json!({"name": name, "value": value}))
}

fn container(list: &'static str) -> impl Strategy<Value = Value> {
    let mount = "/[a-z]{1,5}".prop_map(|path| json!({"name": "data", "mountPath": path}));
    let port = (1..4000_u16).prop_map(|port| json!({"containerPort": port}));
    (
        option::of(vec(variable(), 0..4)),
        option::of(vec(mount, 0..3)),
        option::of(vec(port, 0..2)),
        any::<bool>(),
    )
        .prop_map(move |(env, mounts, ports, restarts)| {
            let mut container = json!({"name": "c", "image": "i", "unknown": {"x": 1}});
            let fields = [("env", env), ("volumeMounts", mounts), ("ports", ports)];
            for (field, value) in fields {
                if let Some(value) = value {
                    container[field] = value.into();
                }
            }
            if restarts && list == "initContainers" {
                container["restartPolicy"] = "Always".into();
            }
            container
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let names = vec(select(vec!["jobs", "payments", "leases", "tree"]), 1..4);
    let volume = "[a-z]{1,5}".prop_map(|name| json!({"name": name, "emptyDir": {}}));
    (
        names,
        vec(("example.org/[a-z~]{1,5}", "[a-z]{0,5}"), 0..3),
        option::of(vec(container("initContainers"), 0..3)),
        vec(container("containers"), 1..4),
        option::of(vec(volume, 0..3)),
        any::<bool>(),
    )
        .prop_map(|(mut names, others, init, containers, volumes, socket)| {
            names.sort_unstable();
            names.dedup();
            let mut annotations: Map<String, Value> = others
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
            annotations.insert("pawl.dev/policies".to_owned(), names.join(",").into());
            if socket {
                annotations.insert("pawl.dev/socket".to_owned(), "true".into());
            }
            let mut pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers, "x": [1]}});
            if let Some(init) = init {
                pod["spec"]["initContainers"] = init.into();
            }
            if let Some(volumes) = volumes {
                pod["spec"]["volumes"] = volumes.into();
            }
            pod
        })
}

/// Takes from a list what is ours, which has to lie where we put things.
fn without(after: &mut Value, before: &Value, is_ours: impl Fn(&Value) -> bool) {
    if let Some(items) = after.as_array_mut() {
        items.retain(|item| !is_ours(item) || before.as_array().is_some_and(|b| b.contains(item)));
        if items.is_empty() && before.is_null() {
            *after = Value::Null;
        }
    }
}

/// Removes what we add; what is left has to be what the user wrote.
fn undo(after: &mut Value, before: &Value) {
    after["metadata"]["annotations"]
        .as_object_mut()
        .unwrap()
        .remove(INJECTED);
    let is_volume = |item: &Value| ALL.iter().any(|volume| item["name"] == volume.0);
    let is_variable = |item: &Value| {
        [env::URL, env::TOKEN_FILE, env::SOCKET]
            .iter()
            .any(|name| item["name"] == *name)
    };
    without(
        &mut after["spec"]["volumes"],
        &before["spec"]["volumes"],
        is_volume,
    );
    let init = &mut after["spec"]["initContainers"];
    without(init, &before["spec"]["initContainers"], |c| {
        c["name"] == "pawl-sidecar"
    });
    for list in ["initContainers", "containers"] {
        let containers = after["spec"][list].as_array_mut();
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let before = &before["spec"][list][index];
            without(&mut container["env"], &before["env"], is_variable);
            without(
                &mut container["volumeMounts"],
                &before["volumeMounts"],
                is_volume,
            );
        }
    }
}

/// Members that are null are as good as absent.
fn compact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(compact);
        }
        Value::Array(items) => items.iter_mut().for_each(compact),
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_patch_only_adds_and_only_once(before in pod()) {
        let patch = mutate(&config(), NAMESPACE, &before).unwrap().patch;
        prop_assert!(patch.0.iter().all(|step| matches!(step, PatchOperation::Add(_))));
        let mut after = before.clone();
        // Step by step: an `add` to a member that is there would replace it.
        for step in &patch.0 {
            let path = step.path().to_string();
            let in_list = path.ends_with("/0") || path.ends_with("/-");
            prop_assert!(in_list || after.pointer(&path).is_none(), "{path} is there");
            json_patch::patch(&mut after, std::slice::from_ref(step)).unwrap();
        }
        prop_assert_eq!(&after["spec"]["initContainers"][0]["name"], "pawl-sidecar");
        prop_assert!(mutate(&config(), NAMESPACE, &after).unwrap().patch.0.is_empty());
        let mut left = after;
        undo(&mut left, &before);
        compact(&mut left);
        prop_assert_eq!(left, before);
    }
}
