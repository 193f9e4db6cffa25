//! The operator as a process against a real API server: installed by the chart, with the chart's rights and no more, its
//! webhook called by the API server. Pods are objects whose status points at sidecar processes; what a kubelet does
//! (a mount that follows its ConfigMaps when the pod changes) is done by the tests. Real pods: `tests/cluster.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program"
)]

#[path = "operator/certificates.rs"]
mod certificates;
#[path = "operator/injection.rs"]
mod injection;
#[path = "operator/leaders.rs"]
mod leaders;
#[path = "operator/node.rs"]
mod node;
#[path = "operator/policies.rs"]
mod policies;
#[path = "operator/scale.rs"]
mod scale;
#[path = "operator/trouble.rs"]
mod trouble;
#[path = "operator/world.rs"]
mod world;
