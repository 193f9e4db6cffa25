//! Pawl: the demo bank.
