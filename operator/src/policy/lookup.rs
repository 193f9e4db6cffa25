//! Policies for the webhook, out of what every replica watches.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use pawl_crds::LockPolicy;

use super::{ObservedPolicy, Policies, observed::understood};
use crate::inject;

/// Looks policies up.
#[derive(Debug)]
pub struct Lookup(Vec<Policies>);

impl Lookup {
    /// In all of these.
    pub fn new(watched: Vec<Policies>) -> Self {
        Self(watched)
    }
}

impl inject::Policies for Lookup {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<LockPolicy>> {
        let wanted = ObjectRef::<ObservedPolicy>::new(name).within(namespace);
        let mut stores = self.0.iter().map(Policies::store);
        let policy = stores.find_map(|store| store.get(&wanted))?;
        understood(&policy).ok()
    }
}
