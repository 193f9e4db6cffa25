//! Why the engine says no, with what an answer to the caller needs.

use std::{sync::Arc, time::Duration};

use pawl_lock::{
    BackendError, Key, LossReason, PolicyName,
    backend::{Category, Holder},
};

/// Why an acquire, an inspection or a fence failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// No policy has this name. A policy whose file was removed is unknown at once, while its leases still live.
    #[error("there is no policy {name:?} here")]
    UnknownPolicy {
        /// What was asked for.
        name: String,
        /// What is there, sorted, at most [`super::MAX_LISTED`].
        known: Vec<PolicyName>,
    },
    /// `-` stands for the only policy, and there is none or more than one.
    #[error("\"-\" stands for the only policy, and there are {}", known.len())]
    AmbiguousPolicy {
        /// What is there, sorted, at most [`super::MAX_LISTED`].
        known: Vec<PolicyName>,
    },
    /// The policy cannot be served: its file or its backend's configuration is at fault. Only a change helps.
    #[error("the policy {policy} is refused ({reason}): {message}")]
    PolicyRefused {
        /// Which.
        policy: PolicyName,
        /// A condition's reason in `CamelCase`, such as `BackendNotBuilt`.
        reason: &'static str,
        /// What is wrong and the remedy, in a sentence. No secret.
        message: String,
    },
    /// The policy's leases are being drained because its backend changed; nothing new is given until that is done.
    #[error("the policy {policy} is changing its backend")]
    PolicyDraining {
        /// Which.
        policy: PolicyName,
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// A field of the request lies outside of what the policy allows.
    #[error("{} {problem}", field.as_str())]
    Invalid {
        /// Which field.
        field: Field,
        /// What is wrong with it.
        problem: AskProblem,
    },
    /// The policy does not allow this key.
    #[error("the policy {policy} does not allow the key {key}; it allows {}", allowed.join(", "))]
    KeyNotAllowed {
        /// Which policy.
        policy: PolicyName,
        /// Which key.
        key: Key,
        /// The policy's patterns.
        allowed: Vec<String>,
    },
    /// Another holds the key, and the time to wait is over.
    #[error("the key {key} is held")]
    Held {
        /// Which key.
        key: Key,
        /// By whom, if it is known.
        holder: Option<Holder>,
        /// When asking again makes sense at the latest, if it is known.
        retry_after: Option<Duration>,
    },
    /// A bound is reached.
    #[error("{}: at most {most}", limit.as_str())]
    Limit {
        /// Which.
        limit: Limit,
        /// The bound.
        most: u64,
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// The backend failed. With [`pawl_lock::backend::Outcome::Unknown`] the outcome is being compensated.
    #[error("{error}")]
    Backend {
        /// How.
        error: Arc<BackendError>,
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// Of several keys one was lost again while others were waited for. All are given back.
    #[error("the key {key} was lost ({}) while other keys were waited for", reason.as_str())]
    LostWhileAcquiring {
        /// Which key.
        key: Key,
        /// Why.
        reason: LossReason,
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// The sidecar is shutting down.
    #[error("the sidecar is shutting down")]
    Draining,
}

/// Why a call that names a lease failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// No lease has this id, or it ended too long ago to be remembered (see [`super::LeaseId`]).
    #[error("no lease has this id")]
    Unknown,
    /// It was lost. Final.
    #[error("the lease was lost: {}", reason.as_str())]
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// It was released before. Final.
    #[error("the lease was released before")]
    Released,
    /// The new ttl lies outside of what the policy allows. The lease is as it was.
    #[error("{} {problem}", field.as_str())]
    Invalid {
        /// Which field: always [`Field::Ttl`].
        field: Field,
        /// What is wrong with it.
        problem: AskProblem,
    },
    /// A bound is reached: too many renewals of this lease are under way.
    #[error("{}: at most {most}", limit.as_str())]
    Limit {
        /// Which.
        limit: Limit,
        /// The bound.
        most: u64,
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// A renewal failed at the backend. The lease lives on to its deadline.
    #[error("{error}")]
    Backend {
        /// How.
        error: Arc<BackendError>,
        /// When asking again makes sense.
        retry_after: Duration,
    },
    /// A release that asked for confirmation: the lease is over, but the backend did not confirm before its ttl was.
    #[error("released, but the backend did not confirm: {error}")]
    Unconfirmed {
        /// How it failed.
        error: Arc<BackendError>,
    },
}

/// A field of an [`super::Ask`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `ttl`.
    Ttl,
    /// `wait`.
    Wait,
    /// `maxHold`.
    MaxHold,
    /// `keys`.
    Keys,
}

impl Field {
    /// The field as the API names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Wait => "wait",
            Self::MaxHold => "maxHold",
            Self::Keys => "keys",
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskProblem {
    /// It is shorter than allowed.
    #[error("is shorter than {}ms", least.as_millis())]
    TooShort {
        /// The shortest.
        least: Duration,
    },
    /// It is longer than the policy allows.
    #[error("is longer than {}ms", most.as_millis())]
    TooLong {
        /// The longest.
        most: Duration,
    },
    /// No key is named.
    #[error("is empty")]
    Empty,
    /// Too many keys.
    #[error("has more than {most} entries")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// A key is named twice.
    #[error("names a key twice")]
    Duplicate,
}

/// A bound that can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limit {
    /// `keys.maxHeld` of the policy: keys that this sidecar holds, or is about to.
    MaxHeld,
    /// `keys.maxWaiters` of the policy.
    MaxWaiters,
    /// The sidecar's own bound on keys over all policies.
    Keys,
    /// The sidecar's own bound on leases over all policies.
    Leases,
    /// The sidecar's own bound on waiters over all policies.
    Waiters,
    /// Renewals of one lease that are under way.
    Renewals,
}

impl Limit {
    /// The bound as answers and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxHeld => "max_held",
            Self::MaxWaiters => "max_waiters",
            Self::Keys => "keys",
            Self::Leases => "leases",
            Self::Waiters => "waiters",
            Self::Renewals => "renewals",
        }
    }
}

impl EngineError {
    /// What kind of failure it is: a value of the metric label `result`.
    pub fn category(&self) -> &'static str {
        match self {
            Self::UnknownPolicy { .. } | Self::AmbiguousPolicy { .. } => "unknown_policy",
            Self::PolicyRefused { .. } => "refused",
            Self::Invalid { .. } | Self::KeyNotAllowed { .. } => "invalid",
            Self::Held { .. } => "held",
            Self::Limit { .. } => "limit",
            Self::Backend { .. } | Self::LostWhileAcquiring { .. } => "backend",
            Self::PolicyDraining { .. } | Self::Draining => "draining",
        }
    }

    /// The backend's category, where the backend is at fault.
    pub fn backend(&self) -> Option<Category> {
        match self {
            Self::Backend { error, .. } => Some(error.category()),
            _ => None,
        }
    }

    /// When asking again makes sense, where it does and is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::PolicyDraining { retry_after, .. }
            | Self::Limit { retry_after, .. }
            | Self::Backend { retry_after, .. }
            | Self::LostWhileAcquiring { retry_after, .. } => Some(*retry_after),
            Self::Held { retry_after, .. } => *retry_after,
            Self::UnknownPolicy { .. }
            | Self::AmbiguousPolicy { .. }
            | Self::PolicyRefused { .. }
            | Self::Invalid { .. }
            | Self::KeyNotAllowed { .. }
            | Self::Draining => None,
        }
    }
}
