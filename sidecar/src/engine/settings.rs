//! A policy as the engine needs it: nothing of YAML, Kubernetes or a driver.

use std::{fmt, sync::Arc, time::Duration};

use crate::backend::Scope;
use pawl_crds::KeyPattern;
use pawl_lock::{Backend, Key, Namespace, PolicyName, Ttl, lease::Renew, slot::Terms};

/// What one policy asks of the engine.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Its name, unique in the sidecar.
    pub name: PolicyName,
    /// Its namespace.
    pub namespace: Namespace,
    /// What the slots follow.
    pub terms: Arc<Terms>,
    /// A lease's ttl when the caller names none.
    pub ttl: Ttl,
    /// The longest ttl that a caller may name.
    pub max_ttl: Ttl,
    /// Who renews when the caller does not say.
    pub renew: Renew,
    /// The cap on a lease's whole life.
    pub max_hold: Duration,
    /// How long an acquire queues when the caller does not say.
    pub wait: Duration,
    /// The longest that a caller may ask to queue.
    pub max_wait: Duration,
    /// Which keys may be locked.
    pub allow: Vec<KeyPattern>,
    /// Keys that may be held or waited for at a time.
    pub max_held: u32,
    /// Callers that may wait at a time.
    pub max_waiters: u32,
    /// Whether callers must show the pod's bearer token.
    pub requires_token: bool,
    /// Which backend keeps the locks. A change of it is a change of backend.
    pub backend: BackendConfig,
    /// Where it comes from, for `/status`.
    pub origin: Origin,
}

/// A backend and everything that it is opened with.
#[derive(Clone, PartialEq, Debug)]
pub struct BackendConfig {
    /// The policy it is for: the name of its directory of secrets.
    pub policy: PolicyName,
    /// The namespace that the policy is in.
    pub namespace: Namespace,
    /// Its spec in the policy.
    pub spec: pawl_crds::Backend,
    /// What keeps its keys apart from those of other policies.
    pub scope: Scope,
    /// The policy's `lease.ttl`, where the backend's own time limits follow from it.
    pub ttl: Ttl,
    /// The policy's `lease.maxTtl`, after which a server that forgot everything may count again.
    pub max_ttl: Ttl,
}

impl BackendConfig {
    /// Whether a backend that was opened with `self` serves `other` as it is. Times count only where the backend was opened
    /// with them: a change of `lease.ttl` is new terms for new leases, and not a reason to wait for those that run.
    pub(super) fn serves(&self, other: &Self) -> bool {
        let Self {
            policy,
            namespace,
            spec,
            scope,
            ttl,
            max_ttl,
        } = self;
        *policy == other.policy
            && *namespace == other.namespace
            && *spec == other.spec
            && *scope == other.scope
            && (spec.postgres.is_none() || *ttl == other.ttl)
            && (spec.redlock.is_none() || *max_ttl == other.max_ttl)
    }
}

/// Where a policy comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// The file's name.
    pub file: String,
    /// `metadata.generation`, if the document has it.
    pub generation: Option<i64>,
    /// `metadata.resourceVersion`, if the document has it.
    pub resource_version: Option<String>,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub hash: String,
}

impl Settings {
    /// Whether the policy allows a key.
    pub(super) fn allows(&self, key: &Key) -> bool {
        self.allow.iter().any(|allow| allow.matches(key.as_str()))
    }
}

/// Makes backends. The engine's only way to one, so that tests bring their own.
pub trait Opener: fmt::Debug {
    /// Makes a backend without waiting for its server: a server that is down is a failing call, not a failing open.
    ///
    /// # Errors
    /// [`OpenError`] where only a change of the policy or of this program helps.
    fn open(&self, config: &BackendConfig) -> Result<Arc<dyn Backend>, OpenError>;
}

/// Why a backend cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct OpenError {
    /// A condition's reason in `CamelCase`.
    pub reason: &'static str,
    /// What is wrong and the remedy, in a sentence. No secret.
    pub message: String,
}
