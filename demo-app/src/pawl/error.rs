//! What a call to the sidecar can end with.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::wire::WireError;

/// Why there is no lock, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum PawlError {
    /// 423: someone else held it for all of the wait.
    #[error("the lock is held by {holder}")]
    Held {
        /// The holder's display name.
        holder: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// 429 or 503: at a limit, draining, or the backend does not answer.
    #[error("no lock can be had now: {detail}")]
    Unavailable {
        /// The problem's stable code.
        code: String,
        /// What the sidecar said.
        detail: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// 410: the lease had been lost or was expired.
    #[error("the lock had been lost: {reason}")]
    Lost {
        /// Why.
        reason: String,
    },
    /// Any other refusal: a bug or a wrong configuration on our side, not worth a retry.
    #[error("the sidecar refused ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the sidecar said.
        detail: String,
    },
    /// No answer. Nothing was granted as far as we may believe.
    #[error(transparent)]
    Unknown(#[from] WireError),
    /// An answer that is not what the API promises; not a grant either.
    #[error("the sidecar's answer makes no sense: {0}")]
    Strange(&'static str),
}

impl PawlError {
    /// A short name of the kind, for a metric's label.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Unavailable { .. } => "unavailable",
            Self::Lost { .. } => "lost",
            Self::Refused { .. } => "refused",
            Self::Unknown(_) => "unknown",
            Self::Strange(_) => "strange",
        }
    }

    /// When to try again; `None` when that cannot help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Held { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Unknown(_) => Some(Duration::from_secs(1)),
            Self::Lost { .. } | Self::Refused { .. } | Self::Strange(_) => None,
        }
    }
}

/// The answer's JSON (null when it has none), or the error that it is.
pub(super) fn check(answer: &Response<Bytes>) -> Result<Value, PawlError> {
    let body: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let status = answer.status();
    if status.is_success() {
        return match body {
            Some(body) => Ok(body),
            None if answer.body().is_empty() => Ok(Value::Null),
            None => Err(PawlError::Strange("not JSON")),
        };
    }
    Err(problem(status, &body.unwrap_or_default()))
}

/// Reads an RFC 9457 problem.
pub(super) fn problem(status: StatusCode, body: &Value) -> PawlError {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let detail = text("detail")
        .or(text("title"))
        .unwrap_or_else(|| status.to_string());
    let retry_after = Duration::from_millis(body["retryAfterMs"].as_u64().unwrap_or(1000));
    let holder = || text("holder").or(body["holder"]["owner"].as_str().map(str::to_owned));
    match status {
        StatusCode::LOCKED => PawlError::Held {
            holder: holder().unwrap_or("someone else".into()),
            retry_after,
        },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => PawlError::Unavailable {
            code: text("code").unwrap_or_default(),
            detail,
            retry_after,
        },
        StatusCode::GONE => PawlError::Lost {
            reason: text("reason").unwrap_or(detail),
        },
        other => PawlError::Refused {
            status: other.as_u16(),
            detail,
        },
    }
}
