use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::policy::{
    ObservedPolicy,
    report::{PolicyReport, Verdict},
};

fn map(generation: i64) -> Arc<ConfigMap> {
    let policy: ObservedPolicy = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "generation": generation},
        "spec": {"backend": {"memory": {}}},
    }))
    .unwrap();
    Arc::new(render::config_map(&policy))
}

fn said(read: i64, served: i64, state: State) -> Report {
    let verdict = Verdict {
        is_true: Some(true),
        reason: "Valid".to_owned(),
        message: String::new(),
    };
    let said = PolicyReport {
        read: Some(read),
        served: Some(served),
        state,
        accepted: verdict.clone(),
        backend: verdict,
    };
    Report {
        policies: BTreeMap::from([("p".to_owned(), said)]),
    }
}

#[test]
fn a_pod_is_behind_when_it_has_not_read_what_is_rendered() {
    let serving = State::Serving;
    for (rendered, report, expected) in [
        (Some(map(4)), Some(said(4, 4, serving)), Course::Steady),
        (Some(map(4)), Some(said(3, 3, serving)), Course::Behind),
        // It read it and keeps the last good one: a touch would change nothing.
        (Some(map(4)), Some(said(4, 3, serving)), Course::Steady),
        // Deleted and made anew.
        (Some(map(1)), Some(said(9, 9, serving)), Course::Behind),
        (
            Some(map(1)),
            Some(said(1, 1, State::Removed)),
            Course::Behind,
        ),
        (Some(map(1)), Some(Report::default()), Course::Behind),
        (None, Some(said(4, 4, serving)), Course::Behind),
        (None, Some(said(4, 4, State::Removed)), Course::Steady),
        (None, Some(Report::default()), Course::Steady),
        (Some(map(4)), None, Course::Silent),
    ] {
        let rendered = [("p", rendered)];
        let told = format!("{rendered:?} {report:?}");
        assert_eq!(course(&rendered, report.as_ref()), expected, "{told}");
    }
}

#[test]
fn a_pod_is_touched_four_times_at_most() {
    let mut pod = Pod::default();
    let mut touches = Vec::new();
    for millis in (0..120_000).step_by(250) {
        let astray = Duration::from_millis(millis);
        if let Some(value) = touch(&pod, Course::Behind, astray, "abc") {
            let written = BTreeMap::from([(annotations::POLICY_SUM.to_owned(), value.clone())]);
            pod.metadata.annotations = Some(written);
            touches.push((millis, value));
        }
    }
    let expected = [
        (0, "abc"),
        (2_000, "abc.1"),
        (6_000, "abc.2"),
        (14_000, "abc.3"),
    ];
    let expected = expected.map(|(millis, value)| (millis, value.to_owned()));
    assert_eq!(touches, expected);
    // Something newer is touched for anew.
    let newer = touch(&pod, Course::Behind, Duration::ZERO, "def");
    assert_eq!(newer.as_deref(), Some("def"));
}

#[test]
fn a_pod_that_is_well_or_starts_is_left_alone() {
    let pod = Pod::default();
    let second = Duration::from_secs(1);
    assert_eq!(touch(&pod, Course::Steady, 100 * second, "abc"), None);
    assert_eq!(touch(&pod, Course::Silent, second, "abc"), None);
    let silent = touch(&pod, Course::Silent, 6 * second, "abc");
    assert_eq!(silent.as_deref(), Some("abc"));
}
