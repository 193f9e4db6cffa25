//! What in a pod cannot go together with a sidecar.

use pawl_crds::names::{
    SIDECAR_CONTAINER,
    annotations::{ADMIN_PORT, INJECTED, PORT},
};
use serde_json::Value;

use super::{
    annotations::Wishes,
    pod::{Container, Pod},
    refusal::{Refusal, shown},
    volumes::{ALL, SOCKET, TOKEN, Volume},
};

/// The kubelet's mark on the API server's copy of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Everything that is in the way; `done` says that the pod's sidecar and volumes are ours already.
pub(super) fn find(pod: Pod<'_>, wishes: &Wishes, done: bool) -> Vec<Refusal> {
    let mut found = whole(pod, done);
    for container in pod.containers() {
        if !container.is_named_as_ours() {
            found.extend(ports(container, wishes));
            found.extend(mounts(container));
        } else if !done {
            found.push(Refusal::new(
                container.path(),
                format!("is named {SIDECAR_CONTAINER}, which is the sidecar's name"),
                "rename or remove the container; the webhook adds the sidecar",
            ));
        }
    }
    if !done {
        let is_ours = |name: &&str| ALL.iter().any(|volume| volume.0 == *name);
        let names = pod.volumes().iter().filter_map(|v| v["name"].as_str());
        found.extend(names.filter(is_ours).map(|name| {
            let problem = format!("{} is a name of the sidecar's volumes", shown(name));
            Refusal::new("spec.volumes", problem, "rename or remove the volume")
        }));
    }
    found
}

fn whole(pod: Pod<'_>, done: bool) -> Vec<Refusal> {
    let spec = pod.spec();
    let annotated = |name| pod.annotations().is_some_and(|all| all.contains_key(name));
    let mut found = Vec::new();
    if spec["hostNetwork"] == true {
        found.push(Refusal::new(
            "spec.hostNetwork",
            "the lock API would be open to all processes of the node",
            "remove hostNetwork, or the label pawl.dev/inject",
        ));
    }
    let windows = [
        ("spec.os.name", &spec["os"]["name"]),
        (
            "spec.nodeSelector[kubernetes.io/os]",
            &spec["nodeSelector"]["kubernetes.io/os"],
        ),
    ];
    if let Some((at, _)) = windows.iter().find(|(_, os)| **os == "windows") {
        let problem = "there is no sidecar for Windows";
        found.push(Refusal::new(
            at,
            problem,
            "remove the label pawl.dev/inject",
        ));
    }
    if annotated(MIRROR) {
        let problem = "a static pod runs as its file on the node says: nothing can be put in here";
        let remedy = "remove the label pawl.dev/inject, and write the sidecar into the file";
        found.push(Refusal::new(MIRROR, problem, remedy));
    }
    if annotated(INJECTED) && !done {
        found.push(Refusal::new(
            INJECTED,
            "says that the sidecar is there, and it is not",
            "remove the annotation; the webhook sets it",
        ));
    }
    found
}

/// Containers of a pod share its ports, so one that another container has is taken.
fn ports(container: Container<'_>, wishes: &Wishes) -> Vec<Refusal> {
    let is_tcp = |port: &&Value| port["protocol"].as_str().is_none_or(|name| name == "TCP");
    let taken = container.ports().iter().filter(is_tcp);
    let taken = taken.filter_map(|port| port["containerPort"].as_u64());
    taken
        .filter_map(|port| {
            let annotation = [(wishes.port, PORT), (wishes.admin_port, ADMIN_PORT)]
                .into_iter()
                .find_map(|(ours, name)| (u64::from(ours) == port).then_some(name))?;
            Some(Refusal::new(
                annotation,
                format!("{}.ports has {port} too", container.path()),
                format!("set {annotation} to a port that is free"),
            ))
        })
        .collect()
}

/// Only the token and the socket are for the application, read-only, at their places.
fn mounts(container: Container<'_>) -> Vec<Refusal> {
    let is_given = |volume: Volume, mount: &Value| {
        mount["name"] == volume.0 && mount["mountPath"] == volume.1 && mount["readOnly"] == true
    };
    let at = format!("{}.volumeMounts", container.path());
    let mut found = Vec::new();
    for mount in container.mounts() {
        if is_given(TOKEN, mount) || is_given(SOCKET, mount) {
            continue;
        }
        let name = mount["name"].as_str().unwrap_or_default();
        if ALL.iter().any(|volume| volume.0 == name) {
            let problem = format!("mounts {}, which is the sidecar's", shown(name));
            found.push(Refusal::new(&at, problem, "remove the mount"));
            continue;
        }
        let path = mount["mountPath"].as_str().unwrap_or_default();
        if [TOKEN, SOCKET].iter().any(|volume| is_in(path, volume.1)) {
            let problem = format!("{} is where the sidecar's files are", shown(path));
            found.push(Refusal::new(&at, problem, "mount it elsewhere"));
        }
    }
    found
}

fn is_in(path: &str, folder: &str) -> bool {
    std::path::Path::new(path).starts_with(folder)
}
