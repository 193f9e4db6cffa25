//! What the backend `kubernetes` does on a real API server beyond the conformance suite.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

#[path = "kubernetes/bench.rs"]
mod bench;
#[path = "kubernetes/faults.rs"]
mod faults;
#[path = "kubernetes/fixture.rs"]
mod fixture;
#[path = "kubernetes/leader.rs"]
mod leader;
#[path = "kubernetes/load.rs"]
mod load;
#[path = "kubernetes/objects.rs"]
mod objects;
#[path = "kubernetes/rights.rs"]
mod rights;
#[path = "kubernetes/server.rs"]
mod server;
