//! The charts: what they refuse, what they render, what documents them, and what an API server makes of it.
//!
//! Needs helm (`scripts/need-cluster`), promtool (Debian's `prometheus`), and for the tests of `server` the components of
//! Kubernetes (`scripts/need-cluster`) with `etcd-server`. `PAWL_BLESS=1` renews the golden files.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "helpers of tests, and tables of cases"
)]

#[path = "charts/alerts.rs"]
mod alerts;
#[path = "charts/definition.rs"]
mod definition;
#[path = "charts/output.rs"]
mod output;
#[path = "charts/refused.rs"]
mod refused;
#[path = "charts/server.rs"]
mod server;
#[path = "charts/values.rs"]
mod values;
