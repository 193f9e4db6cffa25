//! The conformance suite on the backend `memory`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use pawl_e2e::conformance::{Server, Traits};
use pawl_lock::{Backend, Instant};
use pawl_sidecar::backend::{Scope, memory::MemoryStore};
use rustix::time::{ClockId, clock_gettime};

struct MemoryServer(MemoryStore);

fn start() -> Arc<dyn Server> {
    let now = || {
        let time = clock_gettime(ClockId::Boottime);
        let part = |n: i64| u64::try_from(n).expect("the boot clock is not negative");
        Instant::from_nanos(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
    };
    Arc::new(MemoryServer(MemoryStore::new(
        Arc::new(now),
        1_700_000_000_000,
    )))
}

impl Server for MemoryServer {
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>> {
        Box::pin(async { Arc::new(self.0.connect(scope)) as Arc<dyn Backend> })
    }

    fn traits(&self) -> Traits {
        Traits {
            holds_expire: true,
            death_seen_within: Duration::ZERO,
            queue_is_dated: true,
            can_pause: false,
            can_restart: false,
            survives_restart: false,
            can_cut: false,
        }
    }
}

pawl_e2e::conformance!(start);
