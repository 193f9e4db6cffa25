//! What all sidecars said last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pawl_lock::Instant;

use super::report::Report;

/// A pod, by namespace and name.
pub(super) type PodName = (String, String);

/// The last answer of each pod that is there. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<Mutex<HashMap<PodName, Entry>>>);

#[derive(Debug)]
struct Entry {
    uid: String,
    /// None: it was asked and did not answer.
    report: Option<Arc<Report>>,
    /// Since when it is not as it should be: it does not answer, or is behind.
    astray_since: Option<Instant>,
}

impl Reports {
    /// What a pod said; none if it was not asked yet, or does not answer.
    pub(super) fn of(&self, pod: &PodName, uid: &str) -> Option<Arc<Report>> {
        let entries = self.entries();
        let entry = entries.get(pod).filter(|entry| entry.uid == uid)?;
        entry.report.clone()
    }

    /// Keeps what a pod said, or that it said nothing; true if that is something new.
    pub(super) fn keep(&self, pod: &PodName, uid: &str, report: Option<Report>) -> bool {
        let mut entries = self.entries();
        let entry = entries.entry(pod.clone()).or_insert_with(|| Entry {
            uid: uid.to_owned(),
            report: None,
            astray_since: None,
        });
        if entry.uid != uid {
            uid.clone_into(&mut entry.uid);
            entry.report = None;
            entry.astray_since = None;
        }
        if entry.report.as_deref() == report.as_ref() {
            return false;
        }
        entry.report = report.map(Arc::new);
        true
    }

    /// Since when a pod is astray, `now` if it was not until now; none when it is not. Forgotten when `is_astray` is false.
    pub(super) fn astray(&self, pod: &PodName, is_astray: bool, now: Instant) -> Option<Instant> {
        let mut entries = self.entries();
        let entry = entries.get_mut(pod)?;
        entry.astray_since = is_astray.then(|| entry.astray_since.unwrap_or(now));
        entry.astray_since
    }

    /// Forgets a pod that is gone; true if something was known of it.
    pub(super) fn forget(&self, pod: &PodName) -> bool {
        self.entries().remove(pod).is_some()
    }

    /// Forgets the pods that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(&PodName) -> bool) {
        self.entries().retain(|pod, _| is_there(pod));
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<PodName, Entry>> {
        // No code that holds the guard can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
