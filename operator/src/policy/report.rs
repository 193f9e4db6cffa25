//! What a sidecar says of its policies, read from its `/status` (`docs/status.md`).
//!
//! A pod can answer whatever it likes there, so what it says counts for its own part of the status alone, its words are
//! cut to what a condition may hold, and fields that are not understood are passed over.

use std::collections::BTreeMap;

use pawl_crds::{
    conditions::{ACCEPTED, BACKEND_READY, reasons},
    names::MAX_POLICIES_PER_POD,
};
use serde::Deserialize;

/// Longest message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 256;
/// Longest reason that is passed on, in bytes.
const LONGEST_REASON: usize = 64;

/// What one sidecar said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// By the policy's name.
    pub policies: BTreeMap<String, PolicyReport>,
}

/// What one sidecar said of one policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyReport {
    /// The newest generation that it read.
    pub read: Option<i64>,
    /// The generation that it serves.
    pub served: Option<i64>,
    /// How it serves it.
    pub state: State,
    /// Whether it takes the policy on.
    pub accepted: Verdict,
    /// Whether it can lock with the backend.
    pub backend: Verdict,
}

/// How a sidecar serves a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum State {
    /// As it is.
    Serving,
    /// Not at all: it never could.
    Refused,
    /// It waits for leases on another backend to end.
    Switching,
    /// The policy is gone, its leases are not.
    Removed,
    /// A word of another version.
    #[serde(other)]
    Other,
}

/// A condition as a sidecar tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// True, false, or not known yet.
    pub is_true: Option<bool>,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Why an answer is not a report of the pod that was asked.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not what a sidecar answers.
    #[error("the answer is not a sidecar's: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Another pod has the address now.
    #[error("another pod answers there")]
    Foreign,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    identity: String,
    policies: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    namespace: String,
    generation: Option<i64>,
    observed_generation: Option<i64>,
    state: State,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// Reads the answer of the sidecar of the pod `name` in `namespace`.
///
/// # Errors
/// [`ReportError`].
pub fn parse(answer: &[u8], namespace: &str, name: &str) -> Result<Report, ReportError> {
    let document: Document = serde_json::from_slice(answer)?;
    if document.identity != name {
        return Err(ReportError::Foreign);
    }
    let rows = document.policies.into_iter();
    let policies = rows
        .filter(|row| row.namespace == namespace)
        .take(MAX_POLICIES_PER_POD)
        .map(|row| (row.name.clone(), row.into()));
    Ok(Report {
        policies: policies.collect(),
    })
}

impl From<Row> for PolicyReport {
    fn from(row: Row) -> Self {
        let verdict = |r#type: &str| {
            let found = row.conditions.iter().find(|found| found.r#type == r#type);
            found.map_or_else(Verdict::unknown, Verdict::of)
        };
        Self {
            accepted: verdict(ACCEPTED),
            backend: verdict(BACKEND_READY),
            read: row.generation,
            served: row.observed_generation,
            state: row.state,
        }
    }
}

impl Verdict {
    fn unknown() -> Self {
        Self {
            is_true: None,
            reason: reasons::UNKNOWN.to_owned(),
            message: String::new(),
        }
    }

    fn of(told: &Condition) -> Self {
        let is_true = match told.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Self {
            is_true,
            reason: word(&told.reason),
            message: sentence(&told.message),
        }
    }
}

/// What a condition's reason may be; anything else is not known.
fn word(told: &str) -> String {
    let fits = told.len() <= LONGEST_REASON
        && told.starts_with(|first: char| first.is_ascii_alphabetic())
        && told.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if fits { told } else { reasons::UNKNOWN }.to_owned()
}

fn sentence(told: &str) -> String {
    let printable = told.chars().filter(|character| !character.is_control());
    printable.take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests;
