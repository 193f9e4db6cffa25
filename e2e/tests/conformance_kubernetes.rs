//! The conformance suite on the backend `kubernetes`, on a real API server with its etcd.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

#[path = "kubernetes/fixture.rs"]
mod fixture;

use std::sync::Arc;

use pawl_e2e::conformance::Server;

fn start() -> Arc<dyn Server> {
    Arc::new(fixture::Fixture::start())
}

pawl_e2e::conformance!(start);
