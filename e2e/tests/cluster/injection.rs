//! What the webhook makes of pods, run by a kubelet in a namespace that enforces `restricted`.

use pawl_e2e::cluster::images::TOOLS;
use serde_json::{Value, json};

use super::kube::{Kube, PATIENCE, is_true};

/// A LockPolicy with a backend and further fields of its spec, both as YAML in one line.
pub(super) fn policy(name: &str, backend: &str, rest: &str) -> String {
    // Where a failover can forget a lock, there is no promise of the other.
    let purpose = if backend.contains("kubernetes") {
        "Correctness"
    } else {
        "Efficiency"
    };
    format!(
        "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {{name: {name}}}\nspec:\n  purpose: {purpose}\n  backend: {backend}\n  {rest}\n"
    )
}

/// The specification of a pod with a container `app` that runs a script, at an indentation.
fn pod_spec(script: &str, indentation: usize) -> String {
    let text = format!(
        "restartPolicy: Never
securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
terminationGracePeriodSeconds: 10
containers:
- name: app
  image: {TOOLS}
  imagePullPolicy: IfNotPresent
  command: [/bin/bash, -c]
  securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
  args:
  - |
{}",
        indent(script, 4)
    );
    indent(&text, indentation)
}

fn indent(text: &str, by: usize) -> String {
    let lines = text
        .lines()
        .map(|line| format!("{}{line}\n", " ".repeat(by)));
    lines.collect()
}

/// A pod with the label that waits until it is ended.
pub(super) fn pod(name: &str, policy: &str, annotation: &str) -> String {
    let script = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{pawl.dev/inject: 'true'}}\n  annotations:\n    pawl.dev/policies: {policy}\n    {annotation}\nspec:\n{}",
        pod_spec(script, 2)
    )
}

/// A server in a pod of its own and the Service of the same name, as JSON. `container` and `spec` are merged into the container and
/// the pod's specification.
pub(super) fn server(
    name: &str,
    image: &str,
    port: u16,
    container: &Value,
    spec: &Value,
) -> String {
    let mut all = json!({
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "main", "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": "main"}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    merge(&mut all, container);
    let mut pod = json!({
        "enableServiceLinks": false, "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 999, "fsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [all],
    });
    merge(&mut pod, spec);
    let labels = json!({"server": name});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
            "selector": labels, "ports": [{"port": port}],
        }},
    ]})
    .to_string()
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

pub(super) fn a_pod_without_the_label_gets_nothing(kube: &Kube) {
    let namespace = "plain";
    kube.namespace(namespace);
    kube.apply(
        namespace,
        &pod("plain", "none", "").replace("'true'", "'false'"),
    );
    kube.ready(namespace, "plain");
    let pod = kube.get(&["pod", "-n", namespace, "plain"]);
    assert!(pod["spec"]["initContainers"].is_null(), "{pod}");
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

/// Token, socket, the order of start and end. Nothing in the script tries twice.
pub(super) fn a_job_locks_with_its_first_request_and_completes(kube: &Kube) {
    let namespace = "jobs";
    kube.namespace(namespace);
    kube.apply(
        namespace,
        &policy("once", "{memory: {}}", "sidecar: {auth: Token}"),
    );
    let script = r#"set -euo pipefail
url=$PAWL_URL/v1/locks/once
answer() { curl -sS -o /dev/null -w '%{http_code}' "$@"; }
token="Authorization: Bearer $(cat $PAWL_TOKEN_FILE)"
[ "$(answer -X POST -H "$token" $url/first)" = 200 ] || { echo "the first request has no lock"; exit 3; }
[ "$(answer -X POST $url/second)" = 401 ] || { echo "no token is needed"; exit 4; }
[ "$(answer -X POST -H "$token" --unix-socket $PAWL_SOCKET http://localhost/v1/locks/once/third)" = 200 ] || { echo "no socket"; exit 5; }
[ "$(answer -X POST -H "$token" $url/first)" = 423 ] || { echo "two holders"; exit 6; }
[ ! -e /etc/pawl/secrets ] || { echo "secrets are mounted"; exit 7; }"#;
    kube.apply(
        namespace,
        &format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: once}}\nspec:\n  backoffLimit: 0\n  template:\n    metadata:\n      labels: {{pawl.dev/inject: 'true'}}\n      annotations: {{pawl.dev/policies: once, pawl.dev/socket: 'true'}}\n    spec:\n{}",
            pod_spec(script, 6)
        ),
    );
    kube.until("the job ends", PATIENCE, || {
        let job = kube.get(&["job", "-n", namespace, "once"]);
        if is_true(&job, "Failed") {
            let said = kube.run(&["logs", "-n", namespace, "job/once", "-c", "app"]);
            panic!("the job failed: {said}");
        }
        is_true(&job, "Complete").then_some(())
    });
    let pods = kube.get(&[
        "pods",
        "-n",
        namespace,
        "-l",
        "batch.kubernetes.io/job-name=once",
    ]);
    let pod = &pods["items"][0];
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["name"], "pawl-sidecar");
    assert_eq!(sidecar["restartPolicy"], "Always");
    let ended = |status: &Value| {
        let ended = &status["state"]["terminated"];
        (
            ended["finishedAt"].as_str().unwrap_or_default().to_owned(),
            ended["exitCode"].clone(),
        )
    };
    let (app, app_code) = ended(&pod["status"]["containerStatuses"][0]);
    let (sidecar, sidecar_code) = ended(&pod["status"]["initContainerStatuses"][0]);
    assert_eq!((app_code, sidecar_code), (0.into(), 0.into()), "{pod}");
    assert!(
        sidecar >= app,
        "the sidecar ended at {sidecar}, the application at {app}"
    );
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

pub(super) fn a_bad_annotation_refuses_the_pod_with_the_reason(kube: &Kube) {
    let namespace = "bad";
    kube.namespace(namespace);
    for (annotation, said) in [
        ("pawl.dev/port: '80'", "pawl.dev/port"),
        ("pawl.dev/polices: a", "pawl.dev/policies"),
        ("pawl.dev/socket: maybe", "pawl.dev/socket"),
        ("pawl.dev/resources: lots", "pawl.dev/resources"),
    ] {
        let refusal = kube
            .ask(
                &["apply", "-n", namespace, "-f", "-"],
                &pod("bad", "a", annotation),
            )
            .expect_err(annotation);
        assert!(
            refusal.contains("denied the request") && refusal.contains(said),
            "{annotation}: {refusal}"
        );
    }
    assert_eq!(
        kube.run(&["get", "pods", "-n", namespace, "-o", "name"]),
        ""
    );
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}
