//! What `/status` and `/readyz` tell. `docs/status.md` is its reference: the operator reads it.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use arc_swap::ArcSwap;
use pawl_crds::conditions::{ACCEPTED, BACKEND_READY, reasons};
use pawl_kit::admin::{Concern, Readiness, StatusSource};
use pawl_lock::{Owner, PolicyName, backend::Class};
use prometheus::IntGauge;
use serde::Serialize;
use serde_json::Value;

use super::{Policy, health::Health, policy::Phase};

/// The newest report, for the admin server on whatever thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusBoard(Arc<ArcSwap<Report>>);

/// A policy file that is not what is served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFault {
    /// The file's name.
    pub file: String,
    /// The SHA-256 of its text; empty if it could not be read.
    pub hash: String,
    /// Its `metadata.generation`, if it got so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The policy that is served on as it was before, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A condition's reason in `CamelCase`.
    pub reason: &'static str,
    /// What is wrong, in a sentence. No value of the file, which may be a password in the wrong place.
    pub message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    identity: String,
    version: &'static str,
    is_draining: bool,
    policies: Vec<Row>,
    faults: Vec<FileFault>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    namespace: String,
    file: String,
    hash: String,
    /// Of the document that was read last, served or not.
    generation: Option<i64>,
    /// Of the document that is served.
    observed_generation: Option<i64>,
    resource_version: Option<String>,
    state: &'static str,
    backend: &'static str,
    class: Option<&'static str>,
    conditions: [Condition; 2],
    findings: Vec<Found>,
    /// Keys that applications hold.
    held: Count,
    waiters: Count,
}

#[derive(Debug, Serialize)]
struct Condition {
    r#type: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    reason: &'static str,
    is_fatal: bool,
    message: String,
}

/// A number that is read when it is shown.
#[derive(Debug)]
struct Count(Option<IntGauge>);

impl Serialize for Count {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.as_ref().map_or(0, IntGauge::get))
    }
}

impl StatusSource for StatusBoard {
    fn status(&self) -> Value {
        // The report is plain data with text keys, which JSON can always show.
        serde_json::to_value(&**self.0.load()).unwrap_or(Value::Null)
    }
}

/// Keeps the board and the concerns of readiness up to date.
#[derive(Debug)]
pub(super) struct Reporter {
    identity: String,
    board: StatusBoard,
    readiness: Readiness,
    concerns: BTreeMap<PolicyName, Concern>,
    faults: Vec<FileFault>,
}

impl Reporter {
    pub(super) fn new(identity: &Owner, readiness: Readiness) -> Self {
        let empty = Report {
            identity: identity.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            is_draining: false,
            policies: Vec::new(),
            faults: Vec::new(),
        };
        Self {
            identity: identity.to_string(),
            board: StatusBoard(Arc::new(ArcSwap::from_pointee(empty))),
            readiness,
            concerns: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    pub(super) fn board(&self) -> StatusBoard {
        self.board.clone()
    }

    pub(super) fn set_faults(&mut self, faults: Vec<FileFault>) {
        self.faults = faults;
    }

    /// Shows the state of the policies.
    pub(super) fn report<'a>(
        &mut self,
        policies: impl Iterator<Item = &'a Rc<Policy>>,
        is_draining: bool,
    ) {
        if is_draining {
            self.readiness.drain();
        }
        let mut rows = Vec::new();
        let mut concerns = BTreeMap::new();
        for policy in policies {
            let row = self.row(policy);
            let concern = self.concerns.remove(policy.name()).unwrap_or_else(|| {
                let name = format!("policy/{}", policy.name());
                self.readiness.concern(name)
            });
            match row.trouble() {
                Some(trouble) => concern.raise(trouble),
                None => concern.clear(),
            }
            concerns.insert(policy.name().clone(), concern);
            rows.push(row);
        }
        self.concerns = concerns;
        self.board.0.store(Arc::new(Report {
            identity: self.identity.clone(),
            version: env!("CARGO_PKG_VERSION"),
            is_draining,
            policies: rows,
            faults: self.faults.clone(),
        }));
    }

    fn row(&self, policy: &Policy) -> Row {
        let state = policy.state().borrow();
        let origin = &state.settings.origin;
        let service = state.phase.service();
        let gauge = |which: fn(&crate::metrics::PolicyMetrics) -> &IntGauge| {
            Count(service.map(|service| which(&service.metrics).clone()))
        };
        let fault = self
            .faults
            .iter()
            .find(|fault| fault.policy.as_deref() == Some(policy.name().as_str()));
        let health =
            service.map_or_else(Health::default, |service| service.health.borrow().clone());
        let found = |finding: &pawl_lock::backend::Finding| Found {
            reason: finding.reason,
            is_fatal: finding.is_fatal,
            message: finding.message.clone(),
        };
        Row {
            name: policy.name().to_string(),
            namespace: state.settings.namespace.to_string(),
            file: origin.file.clone(),
            hash: origin.hash.clone(),
            generation: fault
                .and_then(|fault| fault.generation)
                .or(origin.generation),
            observed_generation: origin.generation,
            resource_version: origin.resource_version.clone(),
            state: word(&state.phase),
            backend: policy.backend(),
            class: policy.class().map(|class| match class {
                Class::Safe => "Safe",
                Class::BestEffort => "BestEffort",
                Class::Local => "Local",
            }),
            conditions: [
                accepted(&state.phase, fault),
                backend_ready(&state.phase, &health),
            ],
            findings: health.findings().iter().map(found).collect(),
            held: gauge(|metrics| &metrics.held),
            waiters: gauge(|metrics| &metrics.waiters),
        }
    }
}

impl Row {
    /// What is not as it should be, in a sentence.
    fn trouble(&self) -> Option<String> {
        let wrong = |condition: &&Condition| condition.status != "True";
        let wrong = self.conditions.iter().find(wrong)?;
        Some(format!("{}: {}", wrong.reason, wrong.message))
    }
}

const fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Serving(_) => "Serving",
        Phase::Refused { .. } => "Refused",
        Phase::Switching { .. } => "Switching",
        Phase::Removed(_) => "Removed",
    }
}

fn accepted(phase: &Phase, fault: Option<&FileFault>) -> Condition {
    let (status, reason, message) = match (phase, fault) {
        (Phase::Refused { reason, message }, _) => ("False", *reason, message.clone()),
        (_, Some(fault)) => (
            "False",
            fault.reason,
            format!("served as it was before: {}", fault.message),
        ),
        (Phase::Serving(_), None) => ("True", reasons::VALID, String::new()),
        (Phase::Switching { .. }, None) => (
            "True",
            reasons::DRAINING,
            "the backend changed: the leases on the old one are waited for".to_owned(),
        ),
        (Phase::Removed(_), None) => (
            "True",
            reasons::DRAINING,
            "the policy was removed: its leases are waited for".to_owned(),
        ),
    };
    Condition {
        r#type: ACCEPTED,
        status,
        reason,
        message,
    }
}

fn backend_ready(phase: &Phase, health: &Health) -> Condition {
    let (status, reason, message) = match phase {
        Phase::Refused { reason, message } => ("False", *reason, message.clone()),
        Phase::Serving(_) | Phase::Switching { .. } | Phase::Removed(_) => (
            match health.is_ready() {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            },
            health.reason(),
            health.to_string(),
        ),
    };
    Condition {
        r#type: BACKEND_READY,
        status,
        reason,
        message,
    }
}
