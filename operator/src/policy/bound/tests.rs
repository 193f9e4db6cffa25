use super::*;
use serde_json::{Value, json};

fn pod(patch: Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": "app", "namespace": "shop",
            "annotations": {"pawl.dev/policies": "payments, orders"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "initContainers": [{"name": "pawl-sidecar", "image": "x"}, {"name": "migrate"}],
            "containers": [{"name": "app", "image": "y"}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.7", "message": "hello"},
    });
    json_patch::merge(&mut pod, &patch);
    serde_json::from_value(pod).unwrap()
}

#[test]
fn policies_are_read_as_people_write_them() {
    let of = |names: &str| {
        let pod = pod(json!({"metadata": {"annotations": {"pawl.dev/policies": names}}}));
        policies(&pod)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("payments, orders"), ["orders", "payments"]);
    assert_eq!(of(" a ,,a,"), ["a"]);
    assert!(of("").is_empty());
    let many: Vec<_> = (0..40).map(|n| format!("p{n}")).collect();
    assert_eq!(of(&many.join(",")).len(), MAX_POLICIES_PER_POD);
}

#[test]
fn a_pod_stands_where_its_sidecar_answers() {
    let at = |address: &str| Standing::At(address.parse().unwrap());
    assert_eq!(standing(&pod(json!({}))), at("10.0.0.7:4601"));
    let other = json!({"metadata": {"annotations": {"pawl.dev/admin-port": "9000"}}});
    assert_eq!(standing(&pod(other)), at("10.0.0.7:9000"));
    let six = json!({"status": {"podIP": "fd00::7"}});
    assert_eq!(standing(&pod(six)), at("[fd00::7]:4601"));
    for (patch, expected) in [
        (json!({"status": {"podIP": null}}), Standing::Starting),
        (json!({"status": null}), Standing::Starting),
        (json!({"status": {"phase": "Succeeded"}}), Standing::Ended),
        (json!({"status": {"phase": "Failed"}}), Standing::Ended),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            Standing::Ended,
        ),
        (
            json!({"spec": {"initContainers": null}}),
            Standing::NoSidecar,
        ),
        (
            json!({"spec": {"initContainers": [{"name": "migrate"}]}}),
            Standing::NoSidecar,
        ),
    ] {
        assert_eq!(standing(&pod(patch.clone())), expected, "{patch}");
    }
}

#[test]
fn what_is_dropped_is_not_looked_at() {
    let whole = pod(json!({"metadata": {
        "annotations": {"pawl.dev/admin-port": "9000", "pawl.dev/policy-sum": "s", "other": "x"}
    }}));
    let mut trimmed = whole.clone();
    trim(&mut trimmed);
    assert_eq!(standing(&trimmed), standing(&whole));
    assert_eq!(policies(&trimmed), policies(&whole));
    assert_eq!(annotation(&trimmed, "pawl.dev/policy-sum"), Some("s"));
    let text = serde_json::to_string(&trimmed).unwrap();
    for gone in ["other", "migrate", "kubectl", "hello", "\"x\"", "\"y\""] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
}
