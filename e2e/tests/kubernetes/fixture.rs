//! The backend on a server of its own, as the least role lets it.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use pawl_e2e::{
    conformance::{Server, Traits},
    server::{
        kubernetes::{Access, Account, KubernetesServer},
        proxy::Proxy,
    },
};
use pawl_kit::clock::Clock;
use pawl_lock::{Backend, Namespace, PolicyName};
use pawl_sidecar::backend::{
    Scope,
    kubernetes::{ApiAccess, Budget, Kubernetes, KubernetesConfig, Sweep},
};

/// The namespace that the locks are in.
pub const NAMESPACE: &str = "team";

/// A server, and an account that may do what a sidecar needs.
pub struct Fixture {
    /// Where the proxy runs.
    runtime: Option<tokio::runtime::Runtime>,
    proxy: Proxy,
    account: Account,
    server: Arc<KubernetesServer>,
}

/// What a sidecar's account must be allowed.
pub fn least_access() -> Access {
    let verbs = ["get", "list", "watch", "create", "update", "delete"];
    Access::default().allow("coordination.k8s.io", &["leases"], &verbs)
}

/// How a backend of this scope is set up, on the machine's clocks.
pub fn config(access: kube::Config, scope: &Scope) -> KubernetesConfig {
    let (now, wall) = (Clock::system(), Clock::system());
    KubernetesConfig {
        namespace: Namespace::try_new(NAMESPACE).expect("it is a namespace"),
        policy: PolicyName::try_new("conformance").expect("it is a name"),
        scope: scope.clone(),
        access: ApiAccess::Given(Box::new(access)),
        budget: Budget::default(),
        sweep: Sweep::default(),
        now: Arc::new(move || now.now()),
        wall: Arc::new(move || wall.wall().unix_millis()),
    }
}

impl Fixture {
    /// Starts it.
    pub fn start() -> Self {
        let server = Arc::new(KubernetesServer::start());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let account = runtime.block_on(server.account(NAMESPACE, "app", &least_access()));
        let proxy = runtime.block_on(Proxy::start(server.port()));
        Self {
            runtime: Some(runtime),
            proxy,
            account,
            server,
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // May be dropped within another runtime, where this one's end must not be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server for Fixture {
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>> {
        let mut access = self.server.config_of(&self.account);
        let url = format!("https://127.0.0.1:{}", self.proxy.port());
        access.cluster_url = url.parse().expect("it is a URL");
        let backend = Kubernetes::new(config(access, scope));
        Box::pin(async { Arc::new(backend) as Arc<dyn Backend> })
    }

    fn traits(&self) -> Traits {
        Traits {
            holds_expire: true,
            // Somebody has to see the hold stand for its ttl, and begins when it looks.
            death_seen_within: Duration::from_secs(6),
            queue_is_dated: true,
            can_pause: true,
            can_restart: true,
            survives_restart: true,
            can_cut: true,
        }
    }

    fn pause(&self) {
        self.server.pause();
    }

    fn resume(&self) {
        self.server.resume();
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || server.crash_and_restart())
                .await
                .expect("it starts again");
        })
    }

    fn cut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.proxy.cut() })
    }
}
