//! What a store can fail with.

/// Why the books could not be read or written. Nothing was written, except perhaps with
/// [`StoreError::Unconfirmed`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a store's address. It is not repeated, for it may hold a password.
    #[error(
        "this is not a store; write a file's path, sqlite:PATH or postgres://USER@HOST/DATABASE"
    )]
    Url,
    /// The server is not there, refused us, or went away. The text holds no password.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The store went away while it committed: whether it wrote, nobody knows.
    #[error("the store did not confirm the write: {0}")]
    Unconfirmed(String),
    /// Somebody else's transaction kept us waiting for too long.
    #[error("the store was busy for too long")]
    Busy,
    /// A sum would leave the range of money.
    #[error("the amount would overflow the account")]
    Overflow,
    /// The certificates in the CA file cannot be used.
    #[error("the CA file cannot be used: {0}")]
    CaFile(String),
    /// SQLite failed.
    #[error("SQLite: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// Postgres refused a statement.
    #[error("Postgres: {0}")]
    Postgres(String),
    /// The thread that ran the statement ended with it.
    #[error("the statement was broken off")]
    BrokenOff,
}

impl StoreError {
    /// A short name of the kind, for logs and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Url | Self::CaFile(_) => "config",
            Self::Unreachable(_) => "unreachable",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Busy => "busy",
            Self::Overflow => "overflow",
            Self::Sqlite(_) | Self::Postgres(_) | Self::BrokenOff => "failed",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        match e.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(e),
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(e: tokio_postgres::Error) -> Self {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match e.as_db_error() {
            Some(db) => match db.code().code() {
                // lock_not_available, query_canceled, deadlock_detected, serialization_failure
                "55P03" | "57014" | "40P01" | "40001" => Self::Busy,
                // connection exceptions, too many connections, shutting down, bad credentials or database
                code if ["08", "53", "57", "28", "3D"].contains(&&code[..2]) => {
                    Self::Unreachable(db.message().to_owned())
                }
                code => Self::Postgres(format!("{} ({code})", db.message())),
            },
            None => Self::Unreachable(cause_of(&e)),
        }
    }
}

/// The innermost cause, which says what happened; the outer ones only say where.
fn cause_of(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
