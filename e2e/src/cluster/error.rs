//! Why the cluster could not be had.

use std::{io, path::PathBuf, process::ExitStatus};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, mounts and interfaces are root's business.
    #[error(
        "the test cluster makes namespaces, mounts and network interfaces, which only root may: run it as root, or run the \
         tests on another cluster with KUBECONFIG (`make kind-test` makes one with Docker)"
    )]
    NotRoot,
    /// A program is not there.
    #[error("{program} is not installed: {install}")]
    Missing {
        /// Its name.
        program: String,
        /// The command that installs it.
        install: String,
    },
    /// A program could not be run.
    #[error("{program} cannot be run")]
    Run {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to its standard error.
        said: String,
    },
    /// A file could not be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {seconds} s{hint}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// Where to look, or nothing.
        hint: String,
    },
    /// All networks that clusters of this machine may have are taken.
    #[error(
        "sixteen clusters run on this machine already: end one with `make cluster-down` in its checkout"
    )]
    Crowded,
    /// No cluster runs.
    #[error("no cluster runs in {0}: start it with `make cluster-up`")]
    Down(PathBuf),
    /// The API server refused something.
    #[error("the API server refused")]
    Api(#[from] Box<kube::Error>),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] Box<kube::config::KubeconfigError>),
}

/// The result of what may fail so.
pub type Result<T> = std::result::Result<T, Error>;

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl Error {
    /// The error with its causes, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Names the file in an error about it.
pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}
