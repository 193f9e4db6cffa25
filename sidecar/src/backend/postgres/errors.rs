//! How things fail here, and what that means for a lock.

use std::error::Error as StdError;

use pawl_lock::{
    BackendError,
    backend::{Category, Finding, Outcome},
};
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::config::SourceError;

/// A failure of a connection or of a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The credentials' files cannot be read.
    #[error("the credentials cannot be read: {0}")]
    Credentials(#[source] SourceError),
    /// Neither the Secret nor the URL names a user.
    #[error("neither the policy's Secret nor its URL names a user")]
    NoUser,
    /// The TLS files cannot be used.
    #[error("the TLS files cannot be used: {0}")]
    TlsFiles(#[source] SourceError),
    /// The server or the way to it.
    #[error("{}", explain(.0))]
    Server(#[from] tokio_postgres::Error),
    /// The connection did not come about in time.
    #[error("it did not finish the connection's start in time")]
    Slow,
    /// The connection is gone.
    #[error("the connection is gone")]
    Gone,
    /// Too many calls wait for their answers.
    #[error("it answered none of the last {0} calls")]
    Silent(u32),
    /// The server takes no writes.
    #[error("it is read-only, a standby or in recovery")]
    ReadOnly,
    /// The tables are not there, and this role may not make them.
    #[error(
        "the schema \"{schema}\" is missing or old, and this role may not make it: have an administrator run the SQL \
         in docs/backends.md (Postgres), then GRANT this role its use"
    )]
    NoSchema {
        /// Which.
        schema: String,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// The set-up is unsafe.
    #[error("{}", .0.message)]
    Unsafe(Finding),
    /// The call arrived after its time, or after its attempt was given up.
    #[error("the call reached it too late")]
    Late,
    /// Two keys have one advisory lock.
    #[error(
        "the key has the same 64-bit advisory lock as another key in its database: choose another name for one of them"
    )]
    Collision,
    /// An answer that makes no sense.
    #[error("it answered something unexpected: {0}")]
    Protocol(&'static str),
}

impl Failure {
    /// What kind of failure it is.
    pub(super) fn category(&self) -> Category {
        match self {
            Self::Credentials(_) | Self::NoUser | Self::NoSchema { .. } => Category::Config,
            Self::TlsFiles(_) => Category::Tls,
            Self::Server(error) => categorize(error),
            Self::Slow | Self::Gone | Self::Silent(_) => Category::Connection,
            Self::ReadOnly | Self::Late => Category::Unavailable,
            Self::Unsafe(_) | Self::Collision => Category::Unsafe,
            Self::Protocol(_) => Category::Protocol,
        }
    }

    /// Whether a call that was sent and failed so may have had its effect.
    ///
    /// An error of the statement rolled it back. An end of the session or connection may have come between its commit
    /// and its answer.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Server(error) => match error.as_db_error().and_then(DbError::parsed_severity) {
                Some(Severity::Error) => Outcome::NotApplied,
                _ => Outcome::Unknown,
            },
            Self::Protocol(_) => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }

    /// Whether the server may have been at work when it failed, and left something behind.
    pub(super) fn is_at_server(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Protocol(_))
    }

    /// The error of a call with this outcome. `server` is how users know the server.
    pub(super) fn into_error(self, server: &str, outcome: Outcome) -> BackendError {
        self.to_error(server, outcome).with_source(self)
    }

    /// The error of a call that was not sent because of this failure.
    pub(super) fn unsent(&self, server: &str) -> BackendError {
        self.to_error(server, Outcome::NotApplied)
    }

    fn to_error(&self, server: &str, outcome: Outcome) -> BackendError {
        BackendError::new(
            self.category(),
            outcome,
            format!("postgres {server}: {self}"),
        )
    }
}

/// The sentence for users. The server's own text stays in the source, for the log: it may name roles.
fn explain(error: &tokio_postgres::Error) -> String {
    let Some(code) = error.code() else {
        return match categorize(error) {
            Category::Tls => format!("the TLS handshake failed: {}", root(error)),
            Category::Config => "the configuration was refused".to_owned(),
            Category::Protocol => format!("the answer was not understood: {error}"),
            _ if error.is_closed() => "the connection is gone".to_owned(),
            _ => format!("no connection: {}", root(error)),
        };
    };
    let text = match *code {
        SqlState::TOO_MANY_CONNECTIONS | SqlState::CONFIGURATION_LIMIT_EXCEEDED => {
            "it has no connection left"
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => "it is read-only",
        SqlState::ADMIN_SHUTDOWN => "an administrator, or a sidecar that waited, ended the session",
        SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            "it is starting, or shutting down"
        }
        SqlState::QUERY_CANCELED => "the call was cancelled or took too long",
        SqlState::LOCK_NOT_AVAILABLE => "the key is busy with other calls",
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            "the call met another one, and can be made again"
        }
        SqlState::OUT_OF_MEMORY => {
            "its lock table or memory is full: max_locks_per_transaction bounds the keys that can be held"
        }
        SqlState::DISK_FULL => "its disk is full",
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "it refuses this user, password, certificate or host"
        }
        SqlState::INVALID_CATALOG_NAME => "there is no such database",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "this role may not use Pawl's schema, tables or functions: see docs/backends.md (Postgres) for the GRANTs"
        }
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => {
            "Pawl's tables or functions are missing: they were dropped, or are of an older version"
        }
        _ => "the call failed",
    };
    format!("{text} (SQLSTATE {})", code.code())
}

fn categorize(error: &tokio_postgres::Error) -> Category {
    let Some(code) = error.code() else {
        // The driver does not show the kind of an error but in its text.
        let text = error.to_string();
        return match text.as_str() {
            _ if is_tls(error) || text.starts_with("error performing TLS") => Category::Tls,
            "authentication error" | "invalid configuration" | "invalid connection string" => {
                Category::Config
            }
            _ if text.starts_with("error communicating")
                || text.starts_with("error connecting")
                || text.starts_with("timeout")
                || error.is_closed() =>
            {
                Category::Connection
            }
            _ => Category::Protocol,
        };
    };
    match *code {
        SqlState::INVALID_CATALOG_NAME
        | SqlState::INSUFFICIENT_PRIVILEGE
        | SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => Category::Config,
        SqlState::TOO_MANY_CONNECTIONS | SqlState::READ_ONLY_SQL_TRANSACTION => {
            Category::Unavailable
        }
        _ => match &code.code()[..2] {
            "08" => Category::Connection,
            "28" => Category::Config,
            "53" => Category::Full,
            "25" | "40" | "55" | "57" | "58" => Category::Unavailable,
            _ => Category::Protocol,
        },
    }
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
            && inner.is::<rustls::Error>()
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost cause, which says most.
fn root(error: &tokio_postgres::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
