//! The conformance suite on the backend `redis`, on servers that keep nothing across a restart.

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

struct Fixture(RedisServer);

fn start() -> Arc<dyn Server> {
    Arc::new(Fixture(RedisServer::start(RedisOptions::default())))
}

impl Server for Fixture {
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>> {
        let config = RedisConfig::new(self.0.url());
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
            survives_restart: false,
            can_cut: true,
        }
    }

    fn pause(&self) {
        self.0.pause();
    }

    fn resume(&self) {
        self.0.resume();
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        self.0.kill();
        self.0.start_again();
        Box::pin(async {})
    }

    fn cut(&self) -> BoxFuture<'_, ()> {
        self.0.kill_clients();
        Box::pin(async {})
    }
}

pawl_e2e::conformance!(start);
