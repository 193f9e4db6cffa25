//! Policies that were made a moment ago.
//!
//! People apply a policy and its pods in one breath, and the watch may bring the policy after the pod's review. A pod
//! that was made without knowing its policy would lack what the policy asks for, such as the token's volume, for as long as it
//! lives, so it is refused; but before, a policy that is not known is asked for once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pawl_crds::LockPolicy;

use super::Policies;

/// By namespace and name, with what was found.
type Missed = BTreeMap<(String, String), Option<Arc<LockPolicy>>>;

/// The policies of one review: notes which were missed, and knows those that were found after all.
pub(super) struct Recall {
    policies: Arc<dyn Policies>,
    missed: Mutex<Missed>,
}

impl Recall {
    pub(super) fn new(policies: Arc<dyn Policies>) -> Self {
        Self {
            policies,
            missed: Mutex::default(),
        }
    }

    /// Asks for those that were missed; true if one was found.
    pub(super) async fn ask(&self) -> bool {
        let missed: Vec<_> = self.missed().keys().cloned().collect();
        let mut is_found = false;
        for (namespace, name) in missed {
            let found = self.policies.ask(&namespace, &name).await;
            is_found |= found.is_some();
            self.missed().insert((namespace, name), found);
        }
        is_found
    }

    fn missed(&self) -> MutexGuard<'_, Missed> {
        // No code that holds the guard can panic half-way through a change.
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policies for Recall {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<LockPolicy>> {
        self.policies.get(namespace, name).or_else(|| {
            let key = (namespace.to_owned(), name.to_owned());
            self.missed().entry(key).or_default().clone()
        })
    }
}
