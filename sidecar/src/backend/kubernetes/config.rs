//! What the backend must be told.

use std::{sync::Arc, time::Duration};

use pawl_lock::{Instant, Namespace, PolicyName};

use super::Budget;
use crate::backend::Scope;

/// The configuration of a [`super::Kubernetes`].
#[derive(Clone)]
pub struct KubernetesConfig {
    /// The namespace of the Leases.
    pub namespace: Namespace,
    /// The policy, which names the Leases.
    pub policy: PolicyName,
    /// What keeps this policy's keys apart from others'.
    pub scope: Scope,
    /// How the API server is reached.
    pub access: ApiAccess,
    /// How many requests it is sent, together with the other backends that have a clone of this.
    pub budget: Budget,
    /// When objects that nobody uses are removed.
    pub sweep: Sweep,
    /// The boot clock, `pawl_kit::clock` in the sidecar.
    pub now: Now,
    /// The wall clock, in milliseconds since 1970.
    pub wall: WallMillis,
}

/// The clock for lock decisions: the time since boot.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The wall clock, in milliseconds since 1970: a floor for tokens, the order of the queue, and what is shown.
pub type WallMillis = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How the API server is reached.
#[derive(Clone)]
pub enum ApiAccess {
    /// By `KUBECONFIG` or `~/.kube/config`, and else by the pod's service account.
    Inferred,
    /// As this says.
    Given(Box<kube::Config>),
}

/// When objects that nobody uses are removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sweep {
    /// How often one sidecar of a scope looks through its objects.
    pub every: Duration,
    /// How long an object must not have been written.
    pub unused_for: Duration,
    /// The same for one whose fence was asked, which forgets its highest token then.
    pub unfenced_for: Duration,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            every: Duration::from_hours(1),
            unused_for: Duration::from_hours(24),
            unfenced_for: Duration::from_hours(30 * 24),
        }
    }
}
