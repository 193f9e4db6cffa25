//! What is worth an event: a condition that turned.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use pawl_crds::{
    LockPolicyStatus,
    conditions::{READY, reasons},
};

/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Reasons that come and go with every pod: not worth an event.
const PASSING: [&str; 3] = [reasons::UNKNOWN, reasons::PENDING, reasons::NO_PODS];

/// The events that a change of status makes. `Ready` follows from the others and makes none.
pub(super) fn of(before: &LockPolicyStatus, after: &LockPolicyStatus) -> Vec<Event> {
    let turned = |condition: &&Condition| {
        let last = before
            .conditions
            .iter()
            .find(|last| last.type_ == condition.type_);
        let is_new = last.is_none_or(|last| {
            last.status != condition.status
                || (condition.status == "False" && last.reason != condition.reason)
        });
        is_new && condition.type_ != READY && !PASSING.contains(&condition.reason.as_str())
    };
    after.conditions.iter().filter(turned).map(event).collect()
}

fn event(condition: &Condition) -> Event {
    let mut note = format!("{} is {}", condition.type_, condition.status);
    if !condition.message.is_empty() {
        note = format!("{note}: {}", condition.message);
    }
    note.truncate(note.floor_char_boundary(LONGEST_NOTE));
    Event {
        type_: if condition.status == "True" {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: condition.reason.clone(),
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests;
