use std::net::SocketAddr;

use pawl_crds::BackendKind;
use serde_json::json;

use super::*;

const GENERATION: i64 = 4;

fn policy() -> ObservedPolicy {
    serde_json::from_value(json!({
        "metadata": {"name": "payments", "namespace": "shop", "generation": GENERATION},
    }))
    .unwrap()
}

fn now() -> Wall {
    pawl_kit::clock::Clock::manual().0.wall()
}

fn good() -> Validated {
    Validated {
        backend: Some(BackendKind::Redis),
        fault: None,
    }
}

fn said(is_true: Option<bool>, reason: &str) -> Verdict {
    Verdict {
        is_true,
        reason: reason.to_owned(),
        message: format!("it says {reason}"),
    }
}

fn report() -> PolicyReport {
    PolicyReport {
        read: Some(GENERATION),
        served: Some(GENERATION),
        state: State::Serving,
        accepted: said(Some(true), "Valid"),
        backend: said(Some(true), "Connected"),
    }
}

fn pod(name: &str, report: Option<PolicyReport>) -> BoundPod {
    BoundPod {
        name: name.to_owned(),
        standing: Standing::At(SocketAddr::from(([10, 0, 0, 1], 4601))),
        report,
    }
}

fn status(delivery: &Delivery, pods: &[BoundPod]) -> LockPolicyStatus {
    assess(&policy(), &good(), delivery, pods, now())
}

/// Status and reason of each condition, in order.
fn outline(status: &LockPolicyStatus) -> Vec<(String, String)> {
    let outline = |condition: &Condition| (condition.status.clone(), condition.reason.clone());
    status.conditions.iter().map(outline).collect()
}

fn pairs(pairs: [(&str, &str); 4]) -> Vec<(String, String)> {
    let owned = |(status, reason): (&str, &str)| (status.to_owned(), reason.to_owned());
    pairs.into_iter().map(owned).collect()
}

#[test]
fn all_is_well() {
    let status = status(&Delivery::Rendered, &[pod("a", Some(report()))]);
    let expected = [
        ("True", "Valid"),
        ("True", "Connected"),
        ("True", "UpToDate"),
        ("True", "Ready"),
    ];
    assert_eq!(outline(&status), pairs(expected));
    assert_eq!(status.observed_generation, Some(GENERATION));
    assert_eq!(status.backend.as_deref(), Some("redis"));
    let counts = PodCounts {
        bound: 1,
        current: 1,
        ready: 1,
    };
    assert_eq!(status.pods, Some(counts));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_trouble_has_its_condition_and_reason() {
    let with = |change: fn(&mut PolicyReport)| {
        let mut report = report();
        change(&mut report);
        vec![pod("a", Some(report)), pod("b", Some(self::report()))]
    };
    let foreign = Delivery::Foreign {
        config_map: "pawl-policy-payments".to_owned(),
    };
    let missing = BoundPod {
        standing: Standing::NoSidecar,
        ..pod("a", None)
    };
    let cases = [
        (
            "no pod",
            Delivery::Rendered,
            vec![],
            [
                ("True", "Valid"),
                ("Unknown", "Unknown"),
                ("True", "NoPods"),
                ("Unknown", "Unknown"),
            ],
        ),
        (
            "no answer yet",
            Delivery::Rendered,
            vec![pod("a", None)],
            [
                ("True", "Valid"),
                ("Unknown", "Unknown"),
                ("False", "Pending"),
                ("False", "NotReady"),
            ],
        ),
        (
            "one not looked yet",
            Delivery::Rendered,
            with(|report| report.backend = said(None, "Unknown")),
            [
                ("True", "Valid"),
                ("Unknown", "Unknown"),
                ("True", "UpToDate"),
                ("Unknown", "Unknown"),
            ],
        ),
        (
            "a pod without a sidecar",
            Delivery::Rendered,
            vec![missing, pod("b", Some(report()))],
            [
                ("True", "Valid"),
                ("True", "Connected"),
                ("False", "SidecarMissing"),
                ("False", "NotReady"),
            ],
        ),
        (
            "the backend is down for one",
            Delivery::Rendered,
            with(|report| report.backend = said(Some(false), "Unreachable")),
            [
                ("True", "Valid"),
                ("False", "Unreachable"),
                ("True", "UpToDate"),
                ("False", "NotReady"),
            ],
        ),
        (
            "one is behind",
            Delivery::Rendered,
            with(|report| (report.read, report.served) = (Some(3), Some(3))),
            [
                ("True", "Valid"),
                ("True", "Connected"),
                ("False", "Pending"),
                ("False", "NotReady"),
            ],
        ),
        (
            "one keeps the last good policy",
            Delivery::Rendered,
            with(|report| {
                report.served = Some(3);
                report.accepted = said(Some(false), "Invalid");
            }),
            [
                ("True", "Valid"),
                ("True", "Connected"),
                ("False", "Rejected"),
                ("False", "NotReady"),
            ],
        ),
        (
            "a change of backend waits",
            Delivery::Rendered,
            with(|report| report.state = State::Switching),
            [
                ("True", "Valid"),
                ("True", "Connected"),
                ("False", "Draining"),
                ("False", "NotReady"),
            ],
        ),
        (
            "no such backend in this version",
            Delivery::Rendered,
            with(|report| {
                report.state = State::Refused;
                report.accepted = said(Some(false), "BackendNotBuilt");
                report.backend = said(None, "Unknown");
            }),
            [
                ("False", "BackendNotBuilt"),
                ("Unknown", "Unknown"),
                ("False", "Pending"),
                ("False", "NotReady"),
            ],
        ),
        (
            "the ConfigMap is another's",
            foreign,
            with(|report| (report.read, report.served) = (Some(3), Some(3))),
            [
                ("False", "Conflict"),
                ("True", "Connected"),
                ("False", "Pending"),
                ("False", "NotReady"),
            ],
        ),
    ];
    for (name, delivery, pods, expected) in cases {
        assert_eq!(
            outline(&status(&delivery, &pods)),
            pairs(expected),
            "{name}"
        );
    }
}

#[test]
fn a_policy_at_fault_says_why_and_keeps_its_backend() {
    let mut policy = policy();
    policy.status = json!({"backend": "redis"});
    let fault = Validated {
        backend: None,
        fault: Some("spec.lease.ttl: must be at least 100ms".to_owned()),
    };
    let mut old = report();
    (old.read, old.served) = (Some(3), Some(3));
    let pods = [pod("a", Some(old))];
    let status = assess(&policy, &fault, &Delivery::Withheld, &pods, now());
    assert_eq!(status.backend.as_deref(), Some("redis"));
    assert_eq!(
        status.conditions[0].message,
        "spec.lease.ttl: must be at least 100ms"
    );
    assert_eq!(status.conditions[0].reason, "Invalid");
    assert_eq!(status.conditions[2].reason, "Pending");
    assert!(status.conditions[2].message.contains("see Accepted"));
}

#[test]
fn what_most_say_is_told_with_names() {
    let failing = |reason: &str| {
        let mut report = report();
        report.backend = said(Some(false), reason);
        Some(report)
    };
    let mut pods: Vec<_> = (0..5)
        .map(|n| pod(&format!("p{n}"), failing("AuthFailed")))
        .collect();
    pods.push(pod("q", failing("Unreachable")));
    let told = &status(&Delivery::Rendered, &pods).conditions[1];
    assert_eq!(told.reason, "AuthFailed");
    assert_eq!(told.message, "p0, p1, p2 and 2 more: it says AuthFailed");
    let even = [
        pod("a", failing("Unreachable")),
        pod("b", failing("AuthFailed")),
    ];
    assert_eq!(
        status(&Delivery::Rendered, &even).conditions[1].reason,
        "AuthFailed"
    );
}

#[test]
fn a_removed_policy_that_lives_on_in_a_sidecar_is_not_there() {
    let mut removed = report();
    removed.state = State::Removed;
    let status = status(&Delivery::Rendered, &[pod("a", Some(removed))]);
    assert_eq!(status.conditions[1].reason, "Unknown");
    assert_eq!(status.conditions[2].reason, "Pending");
    assert_eq!(status.pods.unwrap().ready, 0);
}

#[test]
fn a_transition_has_its_time_and_the_rest_keeps_theirs() {
    let mut policy = policy();
    let (clock, hand) = pawl_kit::clock::Clock::manual();
    let pods = [pod("a", Some(report()))];
    let first = assess(&policy, &good(), &Delivery::Rendered, &pods, clock.wall());
    policy.status = serde_json::to_value(&first).unwrap();
    hand.advance(std::time::Duration::from_secs(60));
    let again = assess(&policy, &good(), &Delivery::Rendered, &pods, clock.wall());
    assert_eq!(first, again);
    let mut down = report();
    down.backend = said(Some(false), "Unreachable");
    let pods = [pod("a", Some(down))];
    let after = assess(&policy, &good(), &Delivery::Rendered, &pods, clock.wall());
    let times = |status: &LockPolicyStatus| {
        let times = status.conditions.iter();
        times
            .map(|condition| condition.last_transition_time.clone())
            .collect::<Vec<_>>()
    };
    let (before, after_times) = (times(&first), times(&after));
    assert_eq!((&before[0], &before[2]), (&after_times[0], &after_times[2]));
    assert!(before[1].0 < after_times[1].0 && before[3].0 < after_times[3].0);
    assert!(!is_same(&first, &after));
}

#[test]
fn words_alone_are_not_written() {
    let mut one = report();
    one.backend = said(Some(false), "Unreachable");
    let mut two = one.clone();
    two.backend.message = "refused by port 40213".to_owned();
    let (one, two) = ([pod("a", Some(one))], [pod("a", Some(two))]);
    assert!(is_same(
        &status(&Delivery::Rendered, &one),
        &status(&Delivery::Rendered, &two)
    ));
}
