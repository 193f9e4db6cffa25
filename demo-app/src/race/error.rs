//! Why the race could not be run. That it was run and money was lost is no error but its verdict.

use std::path::PathBuf;
use std::process::ExitCode;

use super::backend::BackendError;
use crate::wire::WireError;

/// Why the race could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RaceError {
    /// `--backend` is none.
    #[error("--backend: {0}")]
    Backend(#[from] BackendError),
    /// There is no sidecar to start.
    #[error("there is no pawl-sidecar at {}; build it with `cargo build --release -p pawl-sidecar`, or name it with --sidecar-bin", .0.display())]
    NoSidecar(PathBuf),
    /// The live page's address is taken.
    #[error(
        "the page cannot be served on {0}: the port is in use; name another with --serve=IP:PORT"
    )]
    PortInUse(String),
    /// The sidecars cannot take locks.
    #[error("the backend cannot be used: {0}")]
    Unreachable(String),
    /// A child did not become ready.
    #[error("{name} did not start: {why}\n--- last lines of {} ---\n{words}", log.display())]
    Start {
        /// Which.
        name: String,
        /// What it did.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        words: String,
    },
    /// A bank did not answer when it had to.
    #[error("a bank did not answer: {0}")]
    Bank(String),
    /// A file cannot be written, or a process not started.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The chart cannot be drawn.
    #[error("the chart cannot be drawn: {0}")]
    Chart(String),
    /// Told to stop.
    #[error("stopped before the end")]
    Stopped,
}

impl RaceError {
    /// Says what was tried when the system refused.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// What the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Backend(_) | Self::NoSidecar(_) => ExitCode::from(64),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<WireError> for RaceError {
    fn from(e: WireError) -> Self {
        Self::Bank(e.to_string())
    }
}
