//! The conformance suite on the backend `kubernetes`, on a real API server with its etcd.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{sync::Arc, time::Duration};

use fixture::{NAMESPACE, config, least_access};
use futures::future::BoxFuture;
use pawl_e2e::{
    conformance::{Server, Traits},
    server::{
        kubernetes::{Account, KubernetesServer},
        proxy::Proxy,
    },
};
use pawl_lock::Backend;
use pawl_sidecar::backend::{Scope, kubernetes::Kubernetes};

#[path = "kubernetes/fixture.rs"]
mod fixture;

/// A server, and an account that may do what a sidecar needs.
struct Fixture {
    /// Where the proxy runs.
    runtime: Option<tokio::runtime::Runtime>,
    proxy: Proxy,
    account: Account,
    server: Arc<KubernetesServer>,
}

impl Fixture {
    /// Starts it.
    fn start() -> Self {
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

fn start() -> Arc<dyn Server> {
    Arc::new(Fixture::start())
}

pawl_e2e::conformance!(start);
