use super::*;

fn status(conditions: &[(&str, &str, &str)]) -> LockPolicyStatus {
    let condition = |(r#type, status, reason): &(&str, &str, &str)| Condition {
        type_: (*r#type).to_owned(),
        status: (*status).to_owned(),
        reason: (*reason).to_owned(),
        message: "why".repeat(600),
        last_transition_time: serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap(),
        observed_generation: None,
    };
    LockPolicyStatus {
        conditions: conditions.iter().map(condition).collect(),
        ..LockPolicyStatus::default()
    }
}

fn told(before: &[(&str, &str, &str)], after: &[(&str, &str, &str)]) -> Vec<(bool, String)> {
    let events = of(&status(before), &status(after));
    let told = |event: Event| {
        assert!(event.note.unwrap().len() <= 1024);
        (event.type_ == EventType::Warning, event.reason)
    };
    events.into_iter().map(told).collect()
}

#[test]
fn a_turn_is_told_once_and_with_its_weight() {
    let well = [("BackendReady", "True", "Connected")];
    let down = [("BackendReady", "False", "Unreachable")];
    let barred = [("BackendReady", "False", "AuthFailed")];
    assert_eq!(told(&[], &well), [(false, "Connected".to_owned())]);
    assert_eq!(told(&well, &down), [(true, "Unreachable".to_owned())]);
    assert_eq!(told(&down, &barred), [(true, "AuthFailed".to_owned())]);
    assert_eq!(told(&down, &down), []);
    assert_eq!(told(&well, &well), []);
}

#[test]
fn what_passes_with_every_pod_is_not_told() {
    let current = [("Propagated", "True", "UpToDate")];
    for passing in [
        ("Propagated", "False", "Pending"),
        ("Propagated", "True", "NoPods"),
        ("BackendReady", "Unknown", "Unknown"),
        ("Ready", "False", "NotReady"),
    ] {
        assert_eq!(told(&current, &[passing]), [], "{passing:?}");
    }
    assert_eq!(
        told(&current, &[("Propagated", "False", "SidecarMissing")]),
        [(true, "SidecarMissing".to_owned())]
    );
}
