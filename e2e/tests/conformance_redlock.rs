//! The conformance suite on the backend `redlock`, on five servers that keep nothing across a restart.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use pawl_e2e::{
    conformance::{Server, Traits},
    server::{redis::RedisServer, redlock::RedisNodes},
};
use pawl_kit::clock::Clock;
use pawl_lock::{Backend, Ttl};
use pawl_sidecar::backend::{
    Scope,
    redlock::{Redlock, RedlockConfig},
};

struct Fixture(RedisNodes);

fn start() -> Arc<dyn Server> {
    Arc::new(Fixture(RedisNodes::start(5)))
}

impl Server for Fixture {
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>> {
        Box::pin(async move {
            let config = RedlockConfig {
                // The cases do not restart a node alone, so what counts is only that they need not wait for minutes.
                max_ttl: Ttl::MIN,
                node_timeout: Some(Duration::from_secs(2)),
                ..RedlockConfig::new(self.0.urls())
            };
            let backend = Redlock::new(config, scope.clone(), rand::random(), Clock::system())
                .expect("they are nodes");
            // Connections are there before the short time that a short ttl leaves for an answer.
            drop(backend.check().await);
            Arc::new(backend) as Arc<dyn Backend>
        })
    }

    fn traits(&self) -> Traits {
        Traits {
            holds_expire: true,
            death_seen_within: Duration::ZERO,
            queue_is_dated: true,
            can_pause: true,
            can_restart: true,
            survives_restart: false,
            can_cut: true,
        }
    }

    fn pause(&self) {
        self.0.iter().for_each(RedisServer::pause);
    }

    fn resume(&self) {
        self.0.iter().for_each(RedisServer::resume);
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        self.0.restart();
        Box::pin(async {})
    }

    fn cut(&self) -> BoxFuture<'_, ()> {
        self.0.iter().for_each(RedisServer::kill_clients);
        Box::pin(async {})
    }
}

pawl_e2e::conformance!(start);
