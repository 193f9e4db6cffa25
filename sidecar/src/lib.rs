//! Pawl: the sidecar.
