//! Pawl: lock core.
