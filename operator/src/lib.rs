//! Pawl's operator: gives pods their sidecar, sidecars their policies, and policies their status.

pub mod certs;
pub mod check;
pub mod inject;
pub mod policy;
