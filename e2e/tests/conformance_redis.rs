//! The conformance suite on the backend `redis`, on servers that keep nothing across a restart; what a restart does
//! also on servers with an append-only file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use pawl_e2e::{
    conformance::{Server, Traits},
    server::redis::{RedisOptions, RedisServer},
};
use pawl_lock::Backend;
use pawl_sidecar::backend::{
    Scope,
    redis::{Redis, RedisConfig},
};

struct Fixture {
    server: RedisServer,
    appendonly: bool,
}

fn start() -> Arc<dyn Server> {
    with(false)
}

fn with(appendonly: bool) -> Arc<dyn Server> {
    let server = RedisServer::start(RedisOptions {
        appendonly,
        ..RedisOptions::default()
    });
    Arc::new(Fixture { server, appendonly })
}

impl Server for Fixture {
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>> {
        let config = RedisConfig::new(self.server.url());
        let backend = Redis::new(config, scope.clone(), rand::random()).expect("it is a URL");
        Box::pin(async { Arc::new(backend) as Arc<dyn Backend> })
    }

    fn traits(&self) -> Traits {
        Traits {
            holds_expire: true,
            death_seen_within: Duration::ZERO,
            queue_is_dated: true,
            can_pause: true,
            can_restart: true,
            survives_restart: self.appendonly,
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
        self.server.kill();
        self.server.start_again();
        Box::pin(async {})
    }

    fn cut(&self) -> BoxFuture<'_, ()> {
        self.server.kill_clients();
        Box::pin(async {})
    }
}

pawl_e2e::conformance!(start);

mod appendonly {
    use super::{Arc, Server, with};

    fn start() -> Arc<dyn Server> {
        with(true)
    }

    pawl_e2e::conformance!(@own start;
        faults::tokens_climb_across_a_restart,
        faults::holds_and_a_restart,
    );
}
