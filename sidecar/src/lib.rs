//! Pawl: the sidecar.

pub mod backend;
