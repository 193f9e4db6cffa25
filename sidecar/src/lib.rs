//! Pawl: the sidecar.
pub mod engine;
