//! The webhook that puts the sidecar beside the application.
//!
//! # Invariants
//! - The pod is read as raw JSON and never written out again: a field that this version does not know stays as it is.
//! - A patch only adds. What the user wrote is neither changed nor removed, and an environment variable that the user
//!   set wins.
//! - A second review of a pod that is done adds only what a container that came later lacks; a third adds nothing.
//! - All that is wrong with a pod is told at once, each with what to do about it.
//! - It decides from the request and the policies; it stores and writes nothing, so a dry run is the same.
//!
//! # Flow
//! [`Webhook::serve`] takes connections, `review` reads one `AdmissionReview`, `mutate` decides, and of its helpers
//! `annotations` reads what the user asks for, `conflicts` finds what cannot go together, `container` and `volumes` make
//! what is added.

use std::sync::Arc;

use futures::future::BoxFuture;
use pawl_crds::LockPolicy;

mod amounts;
mod annotations;
mod conflicts;
mod container;
mod metrics;
mod mutate;
mod pod;
mod recall;
mod refusal;
mod review;
mod server;
mod volumes;

pub use metrics::{METRIC, Outcome};
pub use refusal::Refusal;
pub use review::{ReviewError, review};
pub use server::{MAX_BODY_BYTES, MAX_CONNECTIONS, Webhook, server_config};

/// Path of the webhook.
pub const PATH: &str = "/inject";

/// The policies that pods may be bound to; a reflector's store in production. Asked on the event loop: it must not
/// block.
pub trait Policies: Send + Sync {
    /// The policy of that name, if it is there.
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<LockPolicy>>;

    /// Asks where policies come from for one that [`Policies::get`] does not know (yet); for a second or two at most. As
    /// it is, it does not ask.
    fn ask<'a>(
        &'a self,
        _namespace: &'a str,
        _name: &'a str,
    ) -> BoxFuture<'a, Option<Arc<LockPolicy>>> {
        Box::pin(std::future::ready(None))
    }
}

/// When the kubelet pulls the sidecar's image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PullPolicy {
    /// Each time a pod starts.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// It has to be on the node.
    Never,
}

impl PullPolicy {
    /// As in a container.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The text names no pull policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no pull policy: give Always, IfNotPresent or Never")]
pub struct UnknownPullPolicy;

impl std::str::FromStr for PullPolicy {
    type Err = UnknownPullPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPullPolicy> {
        [Self::Always, Self::IfNotPresent, Self::Never]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or(UnknownPullPolicy)
    }
}

/// What the webhook is told.
#[derive(Clone)]
pub struct Config {
    /// Image of the sidecar where the pod names none.
    pub image: String,
    /// When it is pulled; also for an image that the pod names.
    pub pull_policy: PullPolicy,
    /// Version that the pod is marked with.
    pub version: String,
    /// Where policies are looked up.
    pub policies: Arc<dyn Policies>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("image", &self.image)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fixtures;
