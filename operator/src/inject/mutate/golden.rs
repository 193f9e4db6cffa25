//! Pods as they are after the review. `PAWL_BLESS=1` writes the files anew.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::mutate;
use crate::inject::fixtures::{NAMESPACE, config, minimal};

fn check(name: &str, pod: &Value) {
    let mut after = pod.clone();
    let mutation = mutate(&config(), NAMESPACE, pod).unwrap();
    assert_eq!(mutation.warnings, Vec::<String>::new());
    json_patch::patch(&mut after, &mutation.patch).unwrap();
    let made = serde_yaml::to_string(&after).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/inject/golden")
        .join(name);
    if std::env::var_os("PAWL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "{}: look at the change, then run the test again with PAWL_BLESS=1; it is to be:\n{made}",
        path.display()
    );
}

#[test]
fn golden_minimal() {
    check("minimal.yaml", &minimal());
}

#[test]
fn golden_full() {
    let mut pod = minimal();
    pod["metadata"]["annotations"] = json!({
        "pawl.dev/policies": "payments, leases,tree",
        "pawl.dev/port": "5600",
        "pawl.dev/admin-port": "5601",
        "pawl.dev/socket": "true",
        "pawl.dev/image": "registry.example.org:5000/pawl/sidecar:2.0.0",
    });
    pod["spec"] = json!({
        "initContainers": [{"name": "migrate", "image": "app:1", "env": []}],
        "containers": [
            {
                "name": "app",
                "image": "app:1",
                "env": [
                    {"name": "LOCKS", "value": "$(PAWL_URL)/v1/locks"},
                    {"name": "PAWL_SOCKET", "value": "/mine"},
                ],
                "ports": [{"containerPort": 4600}, {"containerPort": 5600, "protocol": "UDP"}],
                "volumeMounts": [{"name": "data", "mountPath": "/var/run/pawl/tokens"}],
            },
            {"name": "proxy", "image": "proxy:1"},
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "aFieldOfTomorrow": {"is": ["kept", 1.50]},
    });
    check("full.yaml", &pod);
}
