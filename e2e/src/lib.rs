//! Tests of Pawl that need several processes, and what they are made of.
//!
//! * [`chart`]: the charts: their values with what documents them, and what helm makes of them.
//! * [`mod@conformance`]: one list of cases that every backend passes on a real server.
//! * [`nemesis`], [`history`]: workers under faults, what they saw, and whether it may have been.
//! * [`http`], [`sidecar`]: sidecars as processes, and a client that speaks HTTP to them.
//! * [`cluster`]: a one-node Kubernetes cluster on this machine.
//! * [`server`]: real servers on free ports of the loopback, ended with the test process whatever happens to it.
//!
//! Nothing here is part of a release; the crate may use anything of the workspace.

#![allow(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "what fails in a test says so by a panic"
)]

pub mod chart;
pub mod cluster;
pub mod conformance;
pub mod history;
pub mod http;
pub mod nemesis;
pub mod server;
pub mod sidecar;
