//! Locks as an application in a pod sees them, by curl in its container `app`.

use serde_json::Value;

use super::kube::Kube;

/// Acquires; the answer of the sidecar. `lock` is `POLICY/KEY`.
pub(super) fn acquire(kube: &Kube, namespace: &str, pod: &str, lock: &str, body: &Value) -> Value {
    let script = format!(
        "curl -sS -X POST -H 'Content-Type: application/json' -d '{body}' $PAWL_URL/v1/locks/{lock}"
    );
    json(kube, namespace, pod, &script)
}

/// The token of a grant that has to be there soon.
pub(super) fn granted(kube: &Kube, namespace: &str, pod: &str, lock: &str, body: &Value) -> u64 {
    let what = format!("{pod} holds {lock}");
    kube.until(&what, super::kube::PATIENCE, || {
        acquire(kube, namespace, pod, lock, body)["fencingToken"].as_u64()
    })
}

/// Holds a lock by a connection until it is told what is done with the process; what the stream says goes to the log of
/// the pod, each line behind the time in seconds. Answers the process id of curl.
pub(super) fn hold(kube: &Kube, namespace: &str, pod: &str, lock: &str, body: &Value) -> u32 {
    let script = format!(
        r#"exec 3> >(exec >/proc/1/fd/1 2>&1; while read -r line; do echo "$EPOCHREALTIME {lock} $line"; done)
curl -sS -N -X POST -H 'Accept: text/event-stream' -H 'Content-Type: application/json' -d '{body}' $PAWL_URL/v1/locks/{lock} >&3 2>&1 </dev/null &
echo $!"#
    );
    let said = run(kube, namespace, pod, &script);
    let id = said.trim().parse();
    let id = id.unwrap_or_else(|_| panic!("no process id: {said}"));
    kube.until(
        &format!("{pod} holds {lock}"),
        super::kube::PATIENCE,
        || {
            let line = format!("{lock} event: granted");
            kube.log(namespace, pod).contains(&line).then_some(())
        },
    );
    id
}

/// Sends a signal to a process in the pod's application.
pub(super) fn signal(kube: &Kube, namespace: &str, pod: &str, name: &str, process: u32) {
    run(kube, namespace, pod, &format!("kill -{name} {process}"));
}

/// The JSON that a script prints.
pub(super) fn json(kube: &Kube, namespace: &str, pod: &str, script: &str) -> Value {
    let answer = run(kube, namespace, pod, script);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn run(kube: &Kube, namespace: &str, pod: &str, script: &str) -> String {
    kube.exec(namespace, pod, script)
        .unwrap_or_else(|error| panic!("in {pod}: {error}"))
}
