//! How a backend call fails, and what to do about it.

use std::{borrow::Cow, error::Error as StdError};

/// A backend call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    category: Category,
    outcome: Outcome,
    message: Cow<'static, str>,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is; a label value, a problem `code` follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Category {
    /// No answer within the time limit.
    Timeout,
    /// No connection, or it broke.
    Connection,
    /// The server is there but cannot serve now: loading, failing over, busy, read-only, out of connections.
    Unavailable,
    /// The server has no room for more.
    Full,
    /// Who we are or what we may do is wrong: only a change of configuration helps.
    Config,
    /// The TLS handshake failed: a certificate expired, names another host or comes from an unknown authority.
    Tls,
    /// The server's set-up makes locks unsafe.
    Unsafe,
    /// The server answered something that is not understood.
    Protocol,
}

/// Whether a call that failed may have had its effect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It had none.
    NotApplied,
    /// It may have, now or later.
    Unknown,
}

/// Whether asking again can help.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retry {
    /// Yes, after a backoff.
    Backoff,
    /// Not until somebody changed something: ask again rarely.
    Rarely,
}

impl BackendError {
    /// A failure. The message is shown to callers and operators: it names the server and the remedy, never a secret.
    pub fn new(
        category: Category,
        outcome: Outcome,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            category,
            outcome,
            message: message.into(),
            source: None,
        }
    }

    /// A failure without an answer: the outcome is unknown.
    pub fn timeout() -> Self {
        Self::new(
            Category::Timeout,
            Outcome::Unknown,
            "the backend did not answer in time",
        )
    }

    /// The same with its cause, which is for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub const fn category(&self) -> Category {
        self.category
    }

    /// Whether the call may have had its effect.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether asking again can help.
    pub const fn retry(&self) -> Retry {
        match self.category {
            Category::Config | Category::Tls | Category::Unsafe => Retry::Rarely,
            Category::Timeout
            | Category::Connection
            | Category::Unavailable
            | Category::Full
            | Category::Protocol => Retry::Backoff,
        }
    }
}

impl Category {
    /// All categories, for label sets and documents.
    pub const ALL: [Self; 8] = [
        Self::Timeout,
        Self::Connection,
        Self::Unavailable,
        Self::Full,
        Self::Config,
        Self::Tls,
        Self::Unsafe,
        Self::Protocol,
    ];

    /// The category as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Config => "config",
            Self::Tls => "tls",
            Self::Unsafe => "unsafe",
            Self::Protocol => "protocol",
        }
    }
}
