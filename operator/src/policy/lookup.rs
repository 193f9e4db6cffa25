//! Policies for the webhook, out of what every replica watches.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::{Api, runtime::reflector::ObjectRef};
use pawl_crds::LockPolicy;

use super::{ObservedPolicy, Policies, observed::understood};
use crate::inject;

/// How long the API server has for an answer; the review as a whole has five seconds.
const PATIENCE: Duration = Duration::from_millis(1500);

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

    fn ask<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Arc<LockPolicy>>> {
        let client = self.0.first().map(Policies::client);
        Box::pin(async move {
            let api: Api<ObservedPolicy> = Api::namespaced(client?, namespace);
            match tokio::time::timeout(PATIENCE, api.get_opt(name)).await {
                Ok(Ok(policy)) => understood(&policy?).ok(),
                Ok(Err(error)) => {
                    tracing::warn!(namespace, policy = name, %error, "a policy cannot be asked for");
                    None
                }
                Err(_) => {
                    tracing::warn!(
                        namespace,
                        policy = name,
                        "a policy was asked for without an answer"
                    );
                    None
                }
            }
        })
    }
}
