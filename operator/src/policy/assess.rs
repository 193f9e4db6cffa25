//! The status of a policy, as a function of what was gathered.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use pawl_crds::{
    LockPolicyStatus, PodCounts,
    conditions::{ACCEPTED, BACKEND_READY, PROPAGATED, READY, reasons},
};
use pawl_kit::clock::Wall;

use super::{
    ObservedPolicy,
    bound::Standing,
    dereference::BoundPod,
    report::{PolicyReport, State, Verdict},
    validate::Validated,
};

/// How many pods a message names.
const NAMED: usize = 3;

/// Whether sidecars can have the policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Its ConfigMap is as it should be.
    Rendered,
    /// It was not rendered, since it is at fault.
    Withheld,
    /// There is a ConfigMap of that name which the operator did not make.
    Foreign {
        /// Its name.
        config_map: String,
    },
}

/// A condition before it is compared with the last one.
struct Finding {
    is_true: Option<bool>,
    reason: String,
    message: String,
}

impl Finding {
    fn new(is_true: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self {
            is_true,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The status as it should be.
pub fn assess(
    policy: &ObservedPolicy,
    validated: &Validated,
    delivery: &Delivery,
    pods: &[BoundPod],
    now: Wall,
) -> LockPolicyStatus {
    let generation = policy.generation();
    let before = policy.status();
    let accepted = accepted(validated, delivery, pods, generation);
    let backend = backend_ready(pods);
    let propagated = propagated(delivery, pods, generation);
    let ready = ready(&[
        (ACCEPTED, &accepted),
        (BACKEND_READY, &backend),
        (PROPAGATED, &propagated),
    ]);
    let found = [
        (ACCEPTED, accepted),
        (BACKEND_READY, backend),
        (PROPAGATED, propagated),
        (READY, ready),
    ];
    LockPolicyStatus {
        observed_generation: Some(generation),
        backend: validated
            .backend
            .map(|kind| kind.as_str().to_owned())
            .or_else(|| before.backend.clone()),
        conditions: found
            .into_iter()
            .map(|(r#type, finding)| condition(r#type, finding, &before, generation, now))
            .collect(),
        pods: Some(counts(pods, generation)),
    }
}

/// Whether a status says the same as another. Messages do not count, since they may name a time or a port that is another one each
/// time: a status is written on a transition.
pub fn is_same(a: &LockPolicyStatus, b: &LockPolicyStatus) -> bool {
    let outline = |status: &LockPolicyStatus| -> Vec<_> {
        let outline = |condition: &Condition| {
            (
                condition.type_.clone(),
                condition.status.clone(),
                condition.reason.clone(),
                condition.observed_generation,
            )
        };
        status.conditions.iter().map(outline).collect()
    };
    a.observed_generation == b.observed_generation
        && a.backend == b.backend
        && a.pods == b.pods
        && outline(a) == outline(b)
}

fn accepted(
    validated: &Validated,
    delivery: &Delivery,
    pods: &[BoundPod],
    generation: i64,
) -> Finding {
    if let Some(fault) = &validated.fault {
        return Finding::new(Some(false), reasons::INVALID, fault);
    }
    if let Delivery::Foreign { config_map } = delivery {
        let message = format!(
            "the ConfigMap {config_map} was not made by the operator, which does not overwrite it: rename or delete it"
        );
        return Finding::new(Some(false), reasons::CONFLICT, message);
    }
    // What no sidecar of this version, or of this pod, can ever take on: the policy is at fault, not its propagation.
    let is_hopeless = |report: &&PolicyReport| {
        let hopeless = [reasons::SECRET_MISSING, reasons::BACKEND_NOT_BUILT];
        report.read == Some(generation) && hopeless.contains(&report.accepted.reason.as_str())
    };
    majority(pods, |report| &report.accepted, is_hopeless)
        .unwrap_or_else(|| Finding::new(Some(true), reasons::VALID, ""))
}

fn backend_ready(pods: &[BoundPod]) -> Finding {
    let reports: Vec<_> = reports(pods).collect();
    if reports.is_empty() {
        let message = if pods.is_empty() {
            "no pod is bound, so nobody has tried"
        } else {
            "no sidecar has reported yet"
        };
        return Finding::new(None, reasons::UNKNOWN, message);
    }
    if let Some(finding) = majority(pods, |report| &report.backend, |_| true) {
        return finding;
    }
    if reports
        .iter()
        .any(|(_, report)| report.backend.is_true.is_none())
    {
        return Finding::new(None, reasons::UNKNOWN, "a sidecar has not looked yet");
    }
    Finding::new(
        Some(true),
        reasons::CONNECTED,
        "every sidecar that reports can lock",
    )
}

fn propagated(delivery: &Delivery, pods: &[BoundPod], generation: i64) -> Finding {
    let names = |is_it: &dyn Fn(&BoundPod) -> bool| -> Vec<&str> {
        let pods = pods.iter().filter(|pod| is_it(pod));
        pods.map(|pod| pod.name.as_str()).collect()
    };
    if pods.is_empty() {
        return Finding::new(Some(true), reasons::NO_PODS, "no pod is bound");
    }
    let missing = names(&|pod| pod.standing == Standing::NoSidecar);
    if !missing.is_empty() {
        let message = format!(
            "without a sidecar: {}: such pods were made while the webhook did not see them; delete them to have them made anew",
            shown(&missing)
        );
        return Finding::new(Some(false), reasons::SIDECAR_MISSING, message);
    }
    let rejected = majority(
        pods,
        |report| &report.accepted,
        |report| report.read == Some(generation) && report.served != Some(generation),
    );
    if let Some(Finding { message, .. }) = rejected {
        return Finding::new(Some(false), reasons::REJECTED, message);
    }
    let switching = names(&|pod| {
        let report = pod.report.as_ref();
        report.is_some_and(|report| report.state == State::Switching)
    });
    if !switching.is_empty() {
        let message = format!(
            "leases on the backend before are waited for: {}",
            shown(&switching)
        );
        return Finding::new(Some(false), reasons::DRAINING, message);
    }
    let behind = names(&|pod| !is_current(pod, generation));
    if behind.is_empty() {
        return Finding::new(
            Some(true),
            reasons::UP_TO_DATE,
            "every bound sidecar serves it",
        );
    }
    let message = match delivery {
        Delivery::Rendered => format!("not there yet: {}", shown(&behind)),
        Delivery::Withheld | Delivery::Foreign { .. } => {
            "it is not given to sidecars, which serve the one before: see Accepted".to_owned()
        }
    };
    Finding::new(Some(false), reasons::PENDING, message)
}

fn ready(parts: &[(&str, &Finding)]) -> Finding {
    let first = |wanted: Option<bool>| parts.iter().find(|(_, finding)| finding.is_true == wanted);
    let told = |(r#type, finding): &(&str, &Finding)| {
        format!("{type}: {}: {}", finding.reason, finding.message)
    };
    match (first(Some(false)), first(None)) {
        (Some(part), _) => Finding::new(Some(false), reasons::NOT_READY, told(part)),
        (None, Some(part)) => Finding::new(None, reasons::UNKNOWN, told(part)),
        (None, None) => Finding::new(Some(true), reasons::READY, ""),
    }
}

fn counts(pods: &[BoundPod], generation: i64) -> PodCounts {
    let count = |is_it: &dyn Fn(&BoundPod) -> bool| {
        u32::try_from(pods.iter().filter(|pod| is_it(pod)).count()).unwrap_or(u32::MAX)
    };
    PodCounts {
        bound: count(&|_| true),
        current: count(&|pod| is_current(pod, generation)),
        ready: count(&|pod| {
            let report = pod.report.as_ref();
            report.is_some_and(|report| {
                report.backend.is_true == Some(true)
                    && matches!(report.state, State::Serving | State::Other)
            })
        }),
    }
}

fn is_current(pod: &BoundPod, generation: i64) -> bool {
    let report = pod.report.as_ref();
    report.is_some_and(|report| {
        report.served == Some(generation)
            && report.read == Some(generation)
            && matches!(report.state, State::Serving | State::Other)
    })
}

fn reports(pods: &[BoundPod]) -> impl Iterator<Item = (&str, &PolicyReport)> {
    pods.iter().filter_map(|pod| {
        let report = pod.report.as_ref()?;
        (report.state != State::Removed).then_some((pod.name.as_str(), report))
    })
}

/// What most sidecars complain of, among those reports that count: their reason, how many they are, and what one of them says.
fn majority<'a>(
    pods: &'a [BoundPod],
    verdict: impl Fn(&'a PolicyReport) -> &'a Verdict,
    counts: impl Fn(&&PolicyReport) -> bool,
) -> Option<Finding> {
    let mut complaints: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (pod, report) in reports(pods).filter(|(_, report)| counts(report)) {
        let verdict = verdict(report);
        if verdict.is_true == Some(false) {
            let complaint = (pod, verdict.message.as_str());
            complaints
                .entry(&verdict.reason)
                .or_default()
                .push(complaint);
        }
    }
    // The first by name among equals, so that it does not flap.
    let (reason, complaints) = complaints
        .into_iter()
        .rev()
        .max_by_key(|(_, complaints)| complaints.len())?;
    let names: Vec<_> = complaints.iter().map(|(pod, _)| *pod).collect();
    let (_, message) = complaints.first()?;
    let message = format!("{}: {message}", shown(&names));
    Some(Finding::new(Some(false), reason, message))
}

fn shown(names: &[&str]) -> String {
    let first = names.get(..NAMED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn condition(
    r#type: &str,
    finding: Finding,
    before: &LockPolicyStatus,
    generation: i64,
    now: Wall,
) -> Condition {
    let status = match finding.is_true {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let last = before.conditions.iter().find(|last| last.type_ == r#type);
    let since = last
        .filter(|last| last.status == status)
        .map(|last| last.last_transition_time.clone());
    Condition {
        type_: r#type.to_owned(),
        status: status.to_owned(),
        reason: finding.reason,
        message: finding.message,
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| {
            Time(Timestamp::from_second(now.unix_seconds()).unwrap_or_default())
        }),
    }
}

#[cfg(test)]
mod tests;
