//! Puts the operator together, runs it, and takes it apart again in the right order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use kube::{Client, runtime::reflector::store::Writer};
use pawl_kit::{
    admin::{Admin, AdminServer, Readiness},
    clock::Clock,
    drain::{Drain, Failure, Signal, Signals, Tasks},
    metrics::{BuildInfo, registry},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    certs::{self, Certs},
    cli::{CertsFrom, Config},
    inject::{self, Webhook},
    leader::{self, Election, Leadership},
    metrics::Metrics,
    policy::{Controller, Lookup, ObservedPolicy, Parts, Policies},
};

/// What the servers have beyond the drain's own time.
const GRACE: Duration = Duration::from_secs(2);

/// Why the operator did not run or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error("the API server cannot be reached: {0}")]
    Client(#[source] kube::Error),
    /// Nothing says where the API server is.
    #[error(
        "nothing says where the API server is: {0}; run it in a pod with a service account, or set KUBECONFIG"
    )]
    Access(#[source] kube::config::InferConfigError),
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
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

/// Runs the operator until it has drained.
///
/// It is ready when it knows the policies and serves a certificate that API servers trust. At the end it takes no new
/// review, answers those that are under way, lets the Lease go, and answers probes to the last.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let signals = Signals::install().map_err(RunError::Signals)?;
    let client = client().await?;
    let readiness = Readiness::new();
    let clock = Clock::system();
    let registry = registry(BuildInfo {
        component: "operator",
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("PAWL_REVISION").unwrap_or("unknown"),
    })?;
    let metrics = Metrics::register(&registry)?;
    let election = Election::new(
        client.clone(),
        leader::Config {
            namespace: config.namespace.clone(),
            name: format!("{}-operator", config.release),
            replica: config.pod_name.clone(),
            clock: clock.clone(),
            gauge: metrics.leader.clone(),
        },
    );
    let leadership = election.leadership();
    let (watched, writers) = policies(&config, &client);
    let controllers = controllers(&config, &watched, |namespace, policies| {
        let parts = Parts {
            client: client.clone(),
            namespace,
            policies,
            leadership: leadership.clone(),
            instance: config.pod_name.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        Controller::new(parts, &readiness)
    });
    let source = certificates(&config, client.clone());
    let certs = Certs::new(source, clock.clone(), &readiness, &registry)?;
    let tls = inject::server_config(certs.resolver());
    let webhook = Webhook::new(injection(&config, &watched), &registry)?;
    let listener = bind(config.webhook_listen).await?;
    let status = status(leadership, watched.clone());
    let admin = Admin::new(readiness.clone(), registry, status);
    let admin = AdminServer::bind(config.admin, admin).await;
    let admin = admin.map_err(|source| RunError::Bind {
        address: config.admin,
        source,
    })?;
    tracing::info!(address = %admin.local_addr(), "admin server listening");

    // Reviews need policies and certificates to the last, and probes the admin server.
    let (drain, reviewed) = (Drain::new(), Drain::new());
    let mut tasks = Tasks::new();
    tasks.onlooker("signals", signals.run(drain.clone()));
    watch(&mut tasks, &reviewed, &readiness, &watched, writers);
    let certs = until(reviewed.signal().draining(), certs.run());
    tasks.essential("certificates", certs);
    tasks.essential("admin", admin.run(reviewed.signal().draining()));
    lead(&mut tasks, &drain, election, controllers);
    let ending = ending(drain.signal(), readiness, config.linger);
    tasks.essential("webhook", async move {
        webhook.serve(listener, tls, ending).await;
        reviewed.start();
    });
    let grace = config.linger + config.drain_timeout + GRACE;
    tasks.run(&drain, grace).await?;
    Ok(())
}

/// The namespaces to look at, each watched apart; `None` for all.
fn scopes(config: &Config) -> Vec<Option<&str>> {
    if config.watch_namespaces.is_empty() {
        return vec![None];
    }
    let namespaces = config.watch_namespaces.iter();
    namespaces.map(|name| Some(name.as_str())).collect()
}

/// The policies of each of them, and what fills them.
fn policies(config: &Config, client: &Client) -> (Vec<Policies>, Vec<Writer<ObservedPolicy>>) {
    let scopes = scopes(config).into_iter();
    scopes
        .map(|namespace| Policies::new(client.clone(), namespace))
        .unzip()
}

fn controllers(
    config: &Config,
    watched: &[Policies],
    make: impl Fn(Option<String>, Policies) -> Controller,
) -> Vec<Controller> {
    let scopes = scopes(config).into_iter().zip(watched);
    scopes
        .map(|(namespace, policies)| make(namespace.map(str::to_owned), policies.clone()))
        .collect()
}

fn injection(config: &Config, watched: &[Policies]) -> inject::Config {
    inject::Config {
        image: config.sidecar_image.clone(),
        pull_policy: config.sidecar_image_pull_policy,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policies: Arc::new(Lookup::new(watched.to_vec())),
    }
}

/// Keeps the policies up to date until `reviewed`; ready when they were listed once.
fn watch(
    tasks: &mut Tasks,
    reviewed: &Drain,
    readiness: &Readiness,
    watched: &[Policies],
    writers: Vec<Writer<ObservedPolicy>>,
) {
    for (policies, writer) in watched.iter().zip(writers) {
        let concern = readiness.concern("watch/lockpolicies");
        let watch = policies.clone().watch(writer, concern);
        tasks.essential("policies", until(reviewed.signal().draining(), watch));
    }
    let latch = readiness.latch("policies");
    let watched = watched.to_vec();
    let known = async move {
        join_all(watched.iter().map(Policies::known)).await;
        latch.release();
    };
    tasks.background("policies known", until(reviewed.signal().draining(), known));
}

fn lead(tasks: &mut Tasks, drain: &Drain, election: Election, controllers: Vec<Controller>) {
    let signal = drain.signal();
    tasks.essential("leader", async move {
        let lead = || async {
            join_all(controllers.iter().map(Controller::lead)).await;
        };
        election.run(signal, lead).await;
    });
}

/// When the webhook takes no new reviews. The pod is not ready from the drain on, but nodes send it reviews until they
/// have heard that.
async fn ending(drain: Signal, readiness: Readiness, linger: Duration) {
    drain.draining().await;
    readiness.drain();
    tokio::time::sleep(linger).await;
}

/// A client that repeats nothing by itself: whoever calls knows what may be repeated, and when.
async fn client() -> Result<Client, RunError> {
    let mut config = kube::Config::infer().await.map_err(RunError::Access)?;
    config.default_retry = false;
    Client::try_from(config).map_err(RunError::Client)
}

fn certificates(config: &Config, client: Client) -> certs::Source {
    match &config.certs {
        CertsFrom::Own => certs::Source::Own(certs::Own {
            client,
            configuration: format!("{}-inject", config.release),
            service: format!("{}-webhook", config.release),
            namespace: config.namespace.clone(),
            pod: config.pod_name.clone(),
            timing: certs::Timing {
                lifetime: config.certs_lifetime,
                ..certs::Timing::default()
            },
        }),
        CertsFrom::Directory(folder) => certs::Source::Folder(folder.clone()),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (bound_to, listener) = bound.map_err(|source| RunError::Bind { address, source })?;
    tracing::info!(address = %bound_to, "webhook listening");
    Ok(listener)
}

/// What `/status` shows.
fn status(
    leadership: Leadership,
    policies: Vec<Policies>,
) -> impl Fn() -> serde_json::Value + Send + Sync + 'static {
    move || {
        let known: usize = policies.iter().map(|policies| policies.store().len()).sum();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "isLeader": leadership.is_leading(),
            "policies": known,
        })
    }
}

/// Work that is dropped when `draining` is done.
async fn until(draining: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = draining => {}
        () = work => {}
    }
}
