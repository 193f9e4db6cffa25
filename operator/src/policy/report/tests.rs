use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn status(patch: Value) -> Vec<u8> {
    let mut status = json!({
        "identity": "app-1", "version": "0.1.0", "isDraining": false, "addresses": [],
        "policies": [{
            "name": "payments", "namespace": "shop", "file": "payments.yaml", "hash": "fd",
            "generation": 4, "observedGeneration": 3, "resourceVersion": null, "state": "Serving",
            "backend": "redis", "class": "BestEffort",
            "conditions": [
                {"type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.x: is not a field"},
                {"type": "BackendReady", "status": "True", "reason": "Connected", "message": "the backend answers"},
            ],
            "findings": [], "held": 3, "waiters": 0,
        }],
        "faults": [],
    });
    json_patch::merge(&mut status, &patch);
    status.to_string().into_bytes()
}

#[test]
fn a_sidecars_status_is_read() {
    let report = parse(&status(json!({})), "shop", "app-1").unwrap();
    let said = &report.policies["payments"];
    assert_eq!(
        (said.read, said.served, said.state),
        (Some(4), Some(3), State::Serving)
    );
    assert_eq!(said.accepted.is_true, Some(false));
    assert_eq!(said.accepted.reason, "Invalid");
    assert_eq!(said.backend.is_true, Some(true));
}

#[test]
fn another_pod_and_another_namespace_do_not_count() {
    assert!(matches!(
        parse(&status(json!({})), "shop", "app-2"),
        Err(ReportError::Foreign)
    ));
    let elsewhere = parse(&status(json!({})), "bank", "app-1").unwrap();
    assert!(elsewhere.policies.is_empty());
}

#[test]
fn what_another_version_says_is_passed_over() {
    let row = json!([{"name": "p", "namespace": "shop", "state": "Dreaming", "depth": 3}]);
    let report = parse(&status(json!({"policies": row})), "shop", "app-1").unwrap();
    let said = &report.policies["p"];
    assert_eq!(said.state, State::Other);
    assert_eq!((said.read, said.accepted.is_true), (None, None));
    for answer in ["", "null", "[]", "{}", "{\"identity\":\"app-1\"}"] {
        assert!(
            parse(answer.as_bytes(), "shop", "app-1").is_err(),
            "{answer}"
        );
    }
}

proptest! {
    /// Whatever a pod says, a condition that the API server takes can be made of it.
    #[test]
    fn words_and_messages_fit_a_condition(reason in ".{0,100}", message in ".{0,400}") {
        let told = Condition {
            r#type: "Accepted".into(),
            status: "False".into(),
            reason,
            message,
        };
        let verdict = Verdict::of(&told);
        prop_assert!(!verdict.reason.is_empty() && verdict.reason.len() <= 64);
        prop_assert!(verdict.reason.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        prop_assert!(verdict.reason.as_bytes()[0].is_ascii_alphabetic());
        prop_assert!(verdict.message.chars().count() <= 256);
        prop_assert!(!verdict.message.contains(char::is_control));
    }
}
