//! What is known of a backend's state, and when it changes.

use std::fmt;

use pawl_crds::conditions::reasons;
use pawl_lock::{
    BackendError,
    backend::{Category, Finding},
};

/// A backend as its last check or a failing call showed it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Health {
    /// Not checked yet.
    #[default]
    Unknown,
    /// It answers, and nothing that was found keeps it from giving locks.
    Ready(Vec<Finding>),
    /// It answers, but gives no locks because of what was found.
    Unsafe(Vec<Finding>),
    /// It cannot be used.
    Down { category: Category, message: String },
}

impl Health {
    /// What a check says.
    pub(super) fn of(result: Result<Vec<Finding>, BackendError>) -> Self {
        match result {
            Ok(findings) if findings.iter().any(|finding| finding.is_fatal) => {
                Self::Unsafe(findings)
            }
            Ok(findings) => Self::Ready(findings),
            Err(error) => Self::Down {
                category: error.category(),
                message: error.to_string(),
            },
        }
    }

    /// Whether locks are given; nothing if it is not known yet.
    pub(super) const fn is_ready(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Ready(_) => Some(true),
            Self::Unsafe(_) | Self::Down { .. } => Some(false),
        }
    }

    /// The reason of the condition `BackendReady`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => reasons::UNKNOWN,
            Self::Ready(_) => reasons::CONNECTED,
            Self::Unsafe(findings) => findings
                .iter()
                .find(|finding| finding.is_fatal)
                .map_or(reasons::UNKNOWN, |finding| finding.reason),
            Self::Down { category, .. } => match category {
                Category::Timeout | Category::Connection | Category::Unavailable => {
                    reasons::UNREACHABLE
                }
                Category::Full => reasons::BACKEND_FULL,
                Category::Config => reasons::AUTH_FAILED,
                Category::Tls => reasons::TLS_FAILED,
                Category::Unsafe => reasons::REPLICAS_UNCONFIRMED,
                Category::Protocol => reasons::VERSION_UNSUPPORTED,
            },
        }
    }

    /// What was found, fatal or not.
    pub(super) fn findings(&self) -> &[Finding] {
        match self {
            Self::Ready(findings) | Self::Unsafe(findings) => findings,
            Self::Unknown | Self::Down { .. } => &[],
        }
    }
}

/// The message of the condition `BackendReady`.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the backend was not asked yet"),
            Self::Ready(_) => f.write_str("the backend answers"),
            Self::Unsafe(findings) => {
                let fatal = findings.iter().filter(|finding| finding.is_fatal);
                let messages: Vec<&str> = fatal.map(|finding| &*finding.message).collect();
                f.write_str(&messages.join("; "))
            }
            Self::Down { message, .. } => f.write_str(message),
        }
    }
}
