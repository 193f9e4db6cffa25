//! Pawl: the sidecar.
pub mod engine;
pub mod metrics;
