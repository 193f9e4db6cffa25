//! Why a call failed, and the one place where that becomes a status, a code and a body.

use std::time::Duration;

use pawl_kit::problem::Problem;
use pawl_lock::{
    BackendError, LossReason, PolicyName,
    backend::{Category, Holder, Outcome},
};
use serde_json::{Value, json};

use super::{
    code::Code,
    http1::{
        guard::Reject,
        response::{Answer, Content},
    },
    json::BodyError,
    path::PathKeyError,
};
use crate::engine::{AskProblem, EngineError, Field, LeaseError};

/// When to ask again while the sidecar shuts down: the next one is there soon, or a native sidecar's pod is gone.
const DRAINING_RETRY: Duration = Duration::from_secs(1);
/// When to ask again when there are too many connections.
const CONNECTIONS_RETRY: Duration = Duration::from_secs(1);
/// When to ask again for a policy that is refused: somebody has to change it.
const REFUSED_RETRY: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The request is refused before it was looked at. The connection is closed after it.
    #[error("{0}")]
    Reject(#[from] Reject),
    /// Nothing is at this path.
    #[error("there is nothing at this path; see docs/api.md for the calls")]
    UnknownPath,
    /// The path has other methods.
    #[error("the path has the methods {allow}")]
    Method {
        /// Which.
        allow: &'static str,
    },
    /// The path's key is none.
    #[error("the key is refused: {0}")]
    Key(#[from] PathKeyError),
    /// The query or a header.
    #[error("{0}")]
    Parameter(&'static str),
    /// A body where none belongs.
    #[error("this call takes no body")]
    UnexpectedBody,
    /// The body's type.
    #[error("the body's Content-Type is not application/json")]
    MediaType,
    /// The body.
    #[error("{0}")]
    Body(#[from] BodyError),
    /// The bearer token.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// A policy asks for a token, and this sidecar has none.
    #[error("the policy requires a token, and this sidecar was started without --token-file")]
    NoToken,
    /// The Idempotency-Key belongs to another request.
    #[error("the Idempotency-Key was used for a request with another method, path or body")]
    Mismatch,
    /// A fence saw a larger token.
    #[error("the token {presented} is stale: {highest} was presented before")]
    Stale {
        /// What was presented.
        presented: u64,
        /// The largest.
        highest: u64,
    },
    /// The sidecar serves as many connections as it may.
    #[error("connections: at most {most}")]
    Connections {
        /// How many.
        most: usize,
    },
    /// An acquire, an inspection or a fence.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// A call that names a lease.
    #[error("{0}")]
    Lease(#[from] LeaseError),
}

impl ApiError {
    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::Reject(reject) => reject_code(*reject),
            Self::UnknownPath => Code::UnknownPath,
            Self::Method { .. } => Code::MethodNotAllowed,
            Self::Key(_) => Code::InvalidKey,
            Self::Parameter(_) => Code::InvalidParameter,
            Self::UnexpectedBody => Code::MalformedRequest,
            Self::MediaType => Code::UnsupportedMediaType,
            Self::Body(BodyError::NotJson(_)) => Code::InvalidJson,
            Self::Body(BodyError::Unknown { .. }) => Code::UnknownField,
            Self::Body(BodyError::Duplicate { .. }) => Code::DuplicateField,
            Self::Body(
                BodyError::NotAnObject | BodyError::Missing { .. } | BodyError::Invalid { .. },
            ) => Code::InvalidField,
            Self::Unauthorized(_) => Code::Unauthorized,
            Self::NoToken => Code::PolicyNotReady,
            Self::Mismatch => Code::IdempotencyMismatch,
            Self::Stale { .. } => Code::StaleToken,
            Self::Connections { .. } => Code::LimitReached,
            Self::Engine(error) => engine_code(error),
            Self::Lease(error) => lease_code(error),
        }
    }

    /// The failure as its caller sees it.
    pub fn problem(&self) -> Problem {
        let code = self.code();
        let problem = Problem::new(code.status(), code.as_str(), code.title());
        let problem = self.with_field(problem);
        match self {
            Self::NoToken => problem
                .with_detail(self.to_string())
                .with_reason("TokenMissing")
                .with_retry_after(REFUSED_RETRY),
            Self::Connections { most } => problem
                .with_detail(self.to_string())
                .with_reason("connections")
                .with_extension("limit", *most)
                .with_retry_after(CONNECTIONS_RETRY),
            Self::Stale { highest, .. } => problem
                .with_detail(self.to_string())
                .with_extension("highest", *highest),
            Self::Engine(error) => with_engine(problem, error),
            Self::Lease(error) => with_lease(problem, error),
            other => problem.with_detail(other.to_string()),
        }
    }

    /// The answer. `trace_id` is the caller's trace, if it named one.
    pub(super) fn answer(&self, trace_id: Option<impl std::fmt::Display>) -> Answer {
        let problem = self.problem().with_trace_id(trace_id);
        let seconds = |after: Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Answer {
            content: Content::Problem(problem.to_json().into()),
            allow: match self {
                Self::Method { allow } => Some(allow),
                _ => None,
            },
            retry_after: problem.retry_after().map(seconds),
            asks_for_token: matches!(self, Self::Unauthorized(_)),
            ..Answer::empty(problem.status())
        }
    }

    /// Names the field of the body that is wrong.
    fn with_field(&self, problem: Problem) -> Problem {
        let field = match self {
            Self::Body(BodyError::Unknown { field, .. } | BodyError::Duplicate { field }) => field,
            Self::Body(BodyError::Missing { field, .. } | BodyError::Invalid { field, .. }) => {
                *field
            }
            Self::Engine(EngineError::Invalid { field, .. })
            | Self::Lease(LeaseError::Invalid { field, .. }) => field.as_str(),
            _ => return problem,
        };
        problem.with_extension("field", field)
    }
}

const fn reject_code(reject: Reject) -> Code {
    match reject {
        Reject::NotHttp | Reject::Malformed(_) | Reject::Target(_) | Reject::Host(_) => {
            Code::MalformedRequest
        }
        Reject::ForeignHost => Code::Misdirected,
        Reject::Browser(_) => Code::BrowserRefused,
        Reject::TargetTooLong => Code::UriTooLong,
        Reject::HeadTooLong | Reject::TooManyHeaders => Code::HeadersTooLarge,
        Reject::BodyTooLarge => Code::BodyTooLarge,
        Reject::ContentEncoding => Code::UnsupportedMediaType,
        Reject::Expectation => Code::ExpectationFailed,
        Reject::Version => Code::HttpVersion,
        Reject::Slow => Code::RequestTimeout,
    }
}

fn engine_code(error: &EngineError) -> Code {
    match error {
        EngineError::UnknownPolicy { .. } => Code::UnknownPolicy,
        EngineError::AmbiguousPolicy { .. } => Code::AmbiguousPolicy,
        EngineError::PolicyRefused { .. } | EngineError::PolicyDraining { .. } => {
            Code::PolicyNotReady
        }
        EngineError::Invalid { .. } => Code::InvalidField,
        EngineError::KeyNotAllowed { .. } => Code::KeyNotAllowed,
        EngineError::Held { .. } => Code::Held,
        EngineError::Limit { .. } => Code::LimitReached,
        EngineError::Backend { error, .. } => backend_code(error),
        EngineError::LostWhileAcquiring { .. } => Code::LostWhileAcquiring,
        EngineError::Draining => Code::Draining,
    }
}

fn lease_code(error: &LeaseError) -> Code {
    match error {
        LeaseError::Unknown => Code::UnknownLease,
        LeaseError::Lost { .. } => Code::LeaseLost,
        LeaseError::Released => Code::LeaseReleased,
        LeaseError::Invalid { .. } => Code::InvalidField,
        LeaseError::Limit { .. } => Code::LimitReached,
        LeaseError::Backend { error, .. } => backend_code(error),
        LeaseError::Unconfirmed { .. } => Code::Unconfirmed,
    }
}

/// What only a change of something helps against has a code of its own; of the rest it matters first whether the call
/// may have had its effect.
fn backend_code(error: &BackendError) -> Code {
    match error.category() {
        Category::Full => Code::BackendFull,
        Category::Config => Code::Config,
        Category::Tls => Code::Tls,
        Category::Unsafe => Code::BackendUnsafe,
        Category::Timeout | Category::Connection | Category::Unavailable | Category::Protocol => {
            match error.outcome() {
                Outcome::Unknown => Code::Unknown,
                Outcome::NotApplied => Code::BackendUnavailable,
            }
        }
    }
}

fn with_engine(problem: Problem, error: &EngineError) -> Problem {
    let problem = match error.retry_after() {
        Some(after) => problem.with_retry_after(after),
        None => problem,
    };
    match error {
        EngineError::UnknownPolicy { known, .. } | EngineError::AmbiguousPolicy { known } => {
            problem
                .with_detail(error.to_string())
                .with_extension("policies", names(known))
        }
        EngineError::PolicyRefused { reason, .. } => problem
            .with_detail(error.to_string())
            .with_reason(*reason)
            .with_retry_after(REFUSED_RETRY),
        EngineError::PolicyDraining { .. } => problem
            .with_detail(error.to_string())
            .with_reason("Draining"),
        EngineError::Invalid {
            field,
            problem: why,
        } => problem.with_detail(field_detail(*field, *why)),
        EngineError::KeyNotAllowed { .. } => problem.with_detail(error.to_string()),
        EngineError::Held { key, holder, .. } => {
            let problem = problem.with_extension("key", key.as_str());
            match holder {
                Some(holder) => problem
                    .with_detail(format!("the key {key} is held by {}", holder.owner))
                    .with_holder(holder_json(holder)),
                None => problem.with_detail(error.to_string()),
            }
        }
        EngineError::Limit { limit, most, .. } => problem
            .with_detail(error.to_string())
            .with_reason(limit.as_str())
            .with_extension("limit", *most),
        EngineError::Backend { error, .. } => problem
            .with_detail(error.to_string())
            .with_reason(error.category().as_str()),
        EngineError::LostWhileAcquiring { key, reason, .. } => problem
            .with_detail(error.to_string())
            .with_reason(reason.as_str())
            .with_extension("key", key.as_str()),
        EngineError::Draining => problem
            .with_detail(error.to_string())
            .with_retry_after(DRAINING_RETRY),
    }
}

fn with_lease(problem: Problem, error: &LeaseError) -> Problem {
    match error {
        LeaseError::Unknown => problem.with_detail(
            "no lease has this id, or it ended too long ago; ids are secrets of 32 lower-case hexadecimal digits",
        ),
        LeaseError::Lost { reason } => problem
            .with_detail(loss_detail(*reason))
            .with_reason(reason.as_str()),
        LeaseError::Released => problem
            .with_detail(error.to_string())
            .with_reason("released"),
        LeaseError::Invalid { field, problem: why } => {
            problem.with_detail(field_detail(*field, *why))
        }
        LeaseError::Limit {
            limit,
            most,
            retry_after,
        } => problem
            .with_detail(error.to_string())
            .with_reason(limit.as_str())
            .with_extension("limit", *most)
            .with_retry_after(*retry_after),
        LeaseError::Backend { error, retry_after } => problem
            .with_detail(format!("{error}; the lease lives on to its deadline"))
            .with_reason(error.category().as_str())
            .with_retry_after(*retry_after),
        LeaseError::Unconfirmed { error: why } => problem
            .with_detail(error.to_string())
            .with_reason(why.category().as_str()),
    }
}

/// A field that lies outside of the policy's bounds, with an example that is right.
fn field_detail(field: Field, why: AskProblem) -> String {
    let example = match field {
        Field::Ttl | Field::Wait | Field::MaxHold => "\"10s\"",
        Field::Keys => "[\"account/1\",\"account/2\"]",
    };
    format!("{} {why}; write for example {example}", field.as_str())
}

/// What became of a lease, in a sentence.
pub(super) const fn loss_detail(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Expired => "the backend was not heard of before the lease's deadline",
        LossReason::NotRenewed => "it was not renewed before its ttl was over",
        LossReason::MaxHold => "its maxHold is over",
        LossReason::Idle => "no call named it for the policy's idle limit",
        LossReason::NotOwner => "the backend says that it is no longer held here",
        LossReason::SessionLost => "the backend's session ended",
        LossReason::Draining => "the sidecar is shutting down",
        LossReason::PolicyRemoved => "its policy was removed, or moved to another backend",
        LossReason::Sibling => "another key of the same lease was lost",
    }
}

fn holder_json(holder: &Holder) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut value = json!({ "owner": holder.owner.as_str(), "mode": holder.mode.as_str() });
    for (name, number) in [
        (
            "fencingToken",
            holder
                .token
                .and_then(|token| token.lease(0))
                .map(pawl_lock::FencingToken::get),
        ),
        ("heldForMs", holder.held_for.map(millis)),
        ("expiresInMs", holder.expires_in.map(millis)),
    ] {
        if let Some(number) = number {
            value[name] = number.into();
        }
    }
    value
}

fn names(policies: &[PolicyName]) -> Vec<&str> {
    policies.iter().map(PolicyName::as_str).collect()
}
