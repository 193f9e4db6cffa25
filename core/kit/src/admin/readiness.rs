//! Whether the daemon takes work, and what is not as it should be.
//!
//! Readiness is made of latches: each part that has to be up first holds one and drops it when it is. A part that is
//! in trouble, but does not keep the daemon from its work, has a [`Concern`]: a backend that is down makes a sidecar
//! answer 503 to some requests, and taking the whole pod out of service would help nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Most concerns that a report shows.
const MAX_SHOWN: usize = 100;

/// Ready when no latch is held and no drain has begun. Clones share their state.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    latches: BTreeMap<u64, &'static str>,
    concerns: BTreeMap<u64, (String, String)>,
    draining: bool,
}

/// Keeps the daemon unready until it is dropped.
#[must_use = "a latch that is dropped at once holds nothing"]
pub struct Latch {
    id: u64,
    readiness: Readiness,
}

/// A part that may be in trouble without making the daemon unready. Gone from the report when it is dropped.
pub struct Concern {
    id: u64,
    name: String,
    readiness: Readiness,
}

/// What `/readyz` shows.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) ready: bool,
    draining: bool,
    waiting_for: Vec<&'static str>,
    concerns: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Shown {
    name: String,
    reason: String,
}

impl Readiness {
    /// Ready, until a latch is taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the daemon unready until the latch is dropped. `name` says what is waited for.
    pub fn latch(&self, name: &'static str) -> Latch {
        let mut state = self.state();
        let id = state.id();
        state.latches.insert(id, name);
        Latch {
            id,
            readiness: self.clone(),
        }
    }

    /// A part to be watched under `name`; it is in order until it says otherwise.
    pub fn concern(&self, name: impl Into<String>) -> Concern {
        let id = self.state().id();
        Concern {
            id,
            name: name.into(),
            readiness: self.clone(),
        }
    }

    /// Makes the daemon unready for good.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Whether the daemon takes work.
    pub fn is_ready(&self) -> bool {
        self.state().is_ready()
    }

    pub(super) fn report(&self) -> Report {
        let state = self.state();
        let shown = |(name, reason): &(String, String)| Shown {
            name: name.clone(),
            reason: reason.clone(),
        };
        Report {
            ready: state.is_ready(),
            draining: state.draining,
            waiting_for: state.latches.values().copied().collect(),
            concerns: state.concerns.values().take(MAX_SHOWN).map(shown).collect(),
            omitted: state
                .concerns
                .len()
                .checked_sub(MAX_SHOWN)
                .filter(|left| *left > 0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the guard can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn is_ready(&self) -> bool {
        self.latches.is_empty() && !self.draining
    }
}

impl Latch {
    /// The same as dropping it, said aloud.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.readiness.state().latches.remove(&self.id);
    }
}

impl Concern {
    /// In trouble, and why; replaces an earlier reason. Shown to whoever may ask: no secrets.
    pub fn raise(&self, reason: impl Into<String>) {
        let trouble = (self.name.clone(), reason.into());
        self.readiness.state().concerns.insert(self.id, trouble);
    }

    /// In order again.
    pub fn clear(&self) {
        self.readiness.state().concerns.remove(&self.id);
    }
}

impl Drop for Concern {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&*self.state()).finish()
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Concern")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(readiness: &Readiness) -> String {
        serde_json::to_string(&readiness.report()).unwrap()
    }

    #[test]
    fn every_latch_has_to_be_dropped() {
        let readiness = Readiness::new();
        let policies = readiness.latch("policies");
        let listener = readiness.clone().latch("listener");
        assert!(!readiness.is_ready());
        assert_eq!(
            shown(&readiness),
            r#"{"ready":false,"draining":false,"waitingFor":["policies","listener"],"concerns":[]}"#
        );
        policies.release();
        assert!(!readiness.is_ready());
        drop(listener);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_concern_is_told_and_changes_nothing() {
        let readiness = Readiness::new();
        let backend = readiness.concern("policy/payments");
        backend.raise("no connection");
        backend.raise("connection refused");
        assert_eq!(
            shown(&readiness),
            concat!(
                r#"{"ready":true,"draining":false,"waitingFor":[],"#,
                r#""concerns":[{"name":"policy/payments","reason":"connection refused"}]}"#
            )
        );
        backend.clear();
        let clean = r#"{"ready":true,"draining":false,"waitingFor":[],"concerns":[]}"#;
        assert_eq!(shown(&readiness), clean);
        backend.raise("again");
        drop(backend);
        assert_eq!(shown(&readiness), clean);
    }

    #[test]
    fn a_drain_is_for_good_and_reports_stay_small() {
        let readiness = Readiness::new();
        let concerns: Vec<_> = (0..MAX_SHOWN + 3)
            .map(|n| readiness.concern(format!("{n}")))
            .collect();
        for concern in &concerns {
            concern.raise("down");
        }
        readiness.drain();
        let report = readiness.report();
        assert_eq!(
            (report.ready, report.concerns.len(), report.omitted),
            (false, MAX_SHOWN, Some(3))
        );
    }
}
