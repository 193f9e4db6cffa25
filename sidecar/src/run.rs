//! Puts the sidecar together, runs it, and takes it apart again in the right order.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use pawl_kit::{
    admin::{Admin, AdminServer, Readiness, StatusSource},
    clock::Clock,
    drain::{Drain, Failure, Signals, Tasks},
    metrics::{BuildInfo, registry},
};

use crate::{
    api,
    cli::Config,
    engine::{self, Engine},
    metrics::Metrics,
    policy::{Backends, Directory, Reloader},
    token::Token,
};

/// What everything together has beyond the drain's own time, before what is left is aborted: the engine's 5 s for the
/// backends, and a second for the servers.
const GRACE: Duration = Duration::from_secs(6);

/// Why the sidecar did not run or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An address of the lock API cannot be bound.
    #[error("the lock API: {0}")]
    Api(#[from] api::BindError),
    /// The token's file cannot be used.
    #[error("the token file {} cannot be used: {source}", path.display())]
    Token {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be caught.
    #[error("signals cannot be caught: {0}")]
    Signals(#[source] io::Error),
    /// Metrics cannot be registered: a bug.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A task failed, or did not end in time.
    #[error("{0}")]
    Task(#[from] Failure),
}

/// Runs the sidecar until it has drained.
///
/// The order at the end: acquires are refused, leases end, the engine lets every hold go; then the lock API stops, so
/// that callers hear of it; then the admin server, so that probes and scrapes are answered to the end.
///
/// Runs in a [`tokio::runtime::LocalRuntime`] or a [`tokio::task::LocalSet`].
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let signals = Signals::install().map_err(RunError::Signals)?;
    let readiness = Readiness::new();
    let starting = readiness.latch("policies");
    let registry = registry(BuildInfo {
        component: "sidecar",
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("PAWL_REVISION").unwrap_or("unknown"),
    })?;
    let metrics = Metrics::register(&registry)?;
    let clock = Clock::system();
    let engine = Engine::new(engine::Config {
        opener: Box::new(Backends::new(
            &clock,
            config.identity.clone(),
            config.secrets.clone(),
        )),
        clock,
        identity: config.identity.clone(),
        limits: config.limits,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
    });
    let api = api::bind(api::Config {
        engine: engine.clone(),
        token: load_token(&config)?,
        listen: config.listen,
        socket: config.socket.clone(),
        audience: config.audience,
        connections: api::Connections::default(),
    })?;
    for address in api.addresses() {
        tracing::info!(%address, "lock API listening");
    }
    let admin = Admin::new(readiness, registry, with_addresses(engine.status(), &api));
    let admin = bind_admin(config.admin, admin).await?;

    let (drain, engine_ended, api_ended) = (Drain::new(), Drain::new(), Drain::new());
    let (engine_signal, api_signal) = (engine_ended.signal(), api_ended.signal());
    let mut tasks = Tasks::new();
    tasks.onlooker("signals", signals.run(drain.clone()));
    let policies = Directory::new(&config.policies);
    let reloader = Reloader::start(policies, engine.clone(), metrics);
    let stop = drain.signal();
    tasks.essential_local("policies", async move {
        tokio::select! {
            () = reloader.run() => {}
            () = stop.draining() => {}
        }
    });
    let (signal, grace) = (drain.signal(), config.drain_timeout);
    tasks.essential_local("engine", async move {
        let ended = engine.run(signal, grace).await;
        engine_ended.start();
        ended
    });
    tasks.essential_local("api", async move {
        let ended = api.run(engine_signal.draining()).await;
        api_ended.start();
        ended
    });
    tasks.essential("admin", admin.run(api_signal.draining()));
    starting.release();
    tasks.run(&drain, config.drain_timeout + GRACE).await?;
    Ok(())
}

/// What the engine tells, and where the lock API listens: with port 0 nobody could know otherwise.
fn with_addresses(engine: impl StatusSource, api: &api::Server) -> impl StatusSource {
    let addresses: Vec<String> = api.addresses().iter().map(ToString::to_string).collect();
    move || {
        let mut status = engine.status();
        status["addresses"] = addresses.clone().into();
        status
    }
}

fn load_token(config: &Config) -> Result<Option<Token>, RunError> {
    let load = |path: &PathBuf| {
        Token::load_or_create(path, config.audience).map_err(|source| RunError::Token {
            path: path.clone(),
            source,
        })
    };
    config.token_file.as_ref().map(load).transpose()
}

async fn bind_admin(address: SocketAddr, admin: Admin) -> Result<AdminServer, RunError> {
    let server = AdminServer::bind(address, admin).await;
    let server = server.map_err(|source| RunError::Bind { address, source })?;
    tracing::info!(address = %server.local_addr(), "admin server listening");
    Ok(server)
}
