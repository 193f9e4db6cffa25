//! What a request can fail with, and what the caller is told: the one place that knows HTTP statuses.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::pawl::PawlError;
use crate::store::StoreError;

/// Why a request was not done. Unless it says otherwise, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// Not JSON, not UTF-8, or cut off.
    #[error("{0}")]
    Malformed(String),
    /// JSON, but not what was asked for.
    #[error("{0}")]
    Invalid(String),
    /// The body is not declared as JSON.
    #[error("send the body as application/json")]
    MediaType,
    /// The body is larger than the bank reads.
    #[error("the body is larger than {} bytes", super::limits::MAX_BODY)]
    TooLarge,
    /// The body did not come in time.
    #[error("the body did not come within {:?}", super::limits::READ_LIMIT)]
    Slow,
    /// No such page.
    #[error("there is nothing here")]
    NoRoute,
    /// A page, but not with this method.
    #[error("use {0}")]
    Method(&'static str),
    /// No such account or order.
    #[error("there is no {0}")]
    NotFound(String),
    /// There is one already.
    #[error("there is an order {0} already")]
    Exists(String),
    /// Less money than asked for.
    #[error("the balance is {balance}, which is less than {amount}")]
    Insufficient {
        /// What there is.
        balance: i64,
        /// What was asked for.
        amount: i64,
    },
    /// An order whose status does not allow it.
    #[error("the order is {status}; only {from} can become {to}")]
    Status {
        /// What it is.
        status: String,
        /// What it would have to be.
        from: &'static str,
        /// What it should become.
        to: String,
    },
    /// Refused by the fence.
    #[error("the fencing token {token} is stale: {highest} was applied already")]
    Stale {
        /// The token that the write carried.
        token: i64,
        /// The highest applied.
        highest: i64,
    },
    /// The fence is on and the write has no token.
    #[error("fencing is on, so the write must carry its lock's token in X-Fence-Token")]
    TokenRequired,
    /// The account was opened again between the read and the write.
    #[error("the account was opened again meanwhile")]
    Reopened,
    /// Others were always faster.
    #[error("others changed it each of the {tries} times it was tried")]
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// Our lease ended while we were thinking, and we noticed in time.
    #[error("the lock was lost before the write; nothing was written")]
    LockLost,
    /// No lock.
    #[error(transparent)]
    Lock(#[from] PawlError),
    /// No books.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work ended without a result.
    #[error("the request was broken off")]
    BrokenOff,
}

impl BankError {
    /// The stable code of the problem, which is also the metric's `result`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Invalid(_) => "invalid",
            Self::MediaType => "media_type",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::NoRoute => "no_route",
            Self::Method(_) => "method",
            Self::NotFound(_) => "not_found",
            Self::Exists(_) => "exists",
            Self::Insufficient { .. } => "insufficient",
            Self::Status { .. } => "status",
            Self::Stale { .. } => "stale",
            Self::TokenRequired => "token_required",
            Self::Reopened => "reopened",
            Self::Contended { .. } => "contended",
            Self::LockLost => "lock_lost",
            Self::Lock(PawlError::Held { .. }) => "lock_held",
            Self::Lock(e) if e.retry_after().is_some() => "lock_unavailable",
            Self::Lock(_) => "lock_failed",
            Self::Store(StoreError::Overflow) => "overflow",
            Self::Store(StoreError::Busy) => "store_busy",
            Self::Store(StoreError::Unreachable(_)) => "store_unavailable",
            Self::Store(StoreError::Unconfirmed(_)) => "unconfirmed",
            Self::Store(_) | Self::BrokenOff => "failed",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Insufficient { .. } => StatusCode::PAYMENT_REQUIRED,
            Self::NoRoute | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Exists(_) | Self::Status { .. } | Self::Stale { .. } | Self::Reopened => {
                StatusCode::CONFLICT
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid(_) | Self::Store(StoreError::Overflow) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::TokenRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::Lock(e) if e.retry_after().is_none() => StatusCode::BAD_GATEWAY,
            Self::Contended { .. }
            | Self::LockLost
            | Self::Lock(_)
            | Self::Store(StoreError::Busy | StoreError::Unreachable(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Store(_) | Self::BrokenOff => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Lock(e) => e.retry_after(),
            Self::Contended { .. } | Self::LockLost => Some(Duration::from_millis(100)),
            Self::Store(StoreError::Busy | StoreError::Unreachable(_)) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    /// The answer, as RFC 9457 has it.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        let mut body = json!({
            "type": format!("urn:pawl-demo:problem:{}", self.code()),
            "code": self.code(),
            "title": status.canonical_reason().unwrap_or("error"),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(after) = self.retry_after() {
            body["retryAfterMs"] = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into();
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(after.as_secs() + u64::from(after.subsec_nanos() > 0)),
            );
        }
        match self {
            Self::Stale { token, highest } => {
                body["fencingToken"] = (*token).into();
                body["highestToken"] = (*highest).into();
            }
            Self::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ => {}
        }
        *response.body_mut() = Full::new(crate::wire::json(&body));
        response
    }
}
