//! The bank: a service that reads a balance, thinks, and writes.
//!
//! Request -> [`route`] -> a verb in [`api`] -> [`teller`], which does the read, the thinking and the write by
//! one of four lock modes. [`problem`] is the only place that turns an error into an HTTP status.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::patience::patiently;
use crate::pawl::{Pawl, Terms};
use crate::store;

pub mod api;
pub mod limits;
pub mod metrics;
pub mod mode;
pub mod options;
mod page;
pub mod problem;
pub mod report;
pub mod route;
pub mod server;
pub mod teller;

use mode::LockMode;
pub use options::Options;
use teller::Teller;

/// Why a bank cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option does not fit the others.
    #[error("{0}")]
    Options(String),
    /// The books cannot be opened.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    /// What the process exits with: 64 for what a user set wrong, 1 for what went wrong.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Options(_) => ExitCode::from(64),
            Self::Store(e) if e.category() == "config" => ExitCode::from(64),
            Self::Store(_) | Self::Listen { .. } => ExitCode::FAILURE,
        }
    }
}

/// All that a request needs.
#[derive(Debug)]
pub struct Bank {
    /// Reads, thinks and writes.
    pub teller: Teller,
    /// What is counted.
    pub metrics: metrics::Metrics,
    /// How others reach this replica; shown on the page.
    pub url: String,
}

/// Runs a bank until `stop`, and then until what was begun is done.
pub async fn run(options: &Options, stop: CancellationToken) -> Result<(), StartError> {
    let (bank, listener) = tokio::select! {
        opened = open(options) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(
        replica = bank.teller.replica,
        url = bank.url,
        mode = bank.teller.mode.name(),
        fencing = bank.teller.fencing,
        "the bank is open"
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(report::keep_announcing(bank.clone(), stop.clone()));
    server::serve(listener, bank.clone(), stop).await;
    while tasks.join_next().await.is_some() {}
    tracing::info!("the bank is closed");
    Ok(())
}

/// Parses everything, opens the books and binds the address; nothing is served yet.
async fn open(options: &Options) -> Result<(Arc<Bank>, TcpListener), StartError> {
    let metrics = metrics::Metrics::new();
    let (fencing, pawl) = (options.fencing(), sidecar(options)?);
    let listen = |source| StartError::Listen {
        address: options.listen.to_string(),
        source,
    };
    let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let store_options = options.store_options()?;
    let is_away = |error: &store::StoreError| matches!(error, store::StoreError::Unreachable(_));
    let store = patiently(options.store_patience, is_away, async || {
        store::open(&options.store, &store_options).await
    })
    .await?;
    let url = options
        .advertise
        .clone()
        .unwrap_or_else(|| format!("http://{address}"));
    let teller = Teller {
        store,
        mode: options.lock_mode,
        fencing,
        pawl,
        terms: Terms {
            ttl: options.lock_ttl,
            wait: Some(options.lock_wait),
            owner: Some(options.replica(address.port())),
            auto_renew: options.lock_renew.map(options::Renew::is_auto),
        },
        think: options.think,
        patience: options.lock_wait.max(Duration::from_secs(1)),
        replica: options.replica(address.port()),
        delayed: 0.into(),
    };
    Ok((
        Arc::new(Bank {
            teller,
            metrics,
            url,
        }),
        listener,
    ))
}

fn sidecar(options: &Options) -> Result<Option<Pawl>, StartError> {
    if options.lock_mode != LockMode::Sidecar {
        return Ok(None);
    }
    let policy = &options.policy;
    if policy.is_empty()
        || !policy
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    {
        return Err(StartError::Options(format!(
            "--policy: `{policy}` is not the name of a policy"
        )));
    }
    let pawl = Pawl::new(&options.sidecar, policy)
        .map_err(|e| StartError::Options(format!("--sidecar: {e}")))?;
    Ok(Some(pawl.with_token_file(options.token_file.clone())))
}
