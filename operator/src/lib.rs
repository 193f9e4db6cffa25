//! Pawl's operator: gives pods their sidecar, sidecars their policies, and policies their status.

pub mod certs;
pub mod check;
pub mod cli;
#[cfg(test)]
mod fixtures;
pub mod inject;
pub mod leader;
pub mod metrics;
pub mod policy;
pub mod run;
