//! The demo: a bank that loses money, and then does not.
//!
//! It shows what a lock is for on a resource that everybody understands. [`bank`] is a service whose
//! check ("is there enough?") and write are two statements with think time between them, so that two
//! replicas really race. [`race`] starts replicas and sidecars as processes, makes them race in
//! every lock mode, and judges the outcome. [`load`] drives a running bank at a fixed rate.
//!
//! # Invariants
//! - Money is whole units in an `i64`; every sum is checked for overflow.
//! - Every write the bank acknowledges is in the store's ledger, in the same transaction as the write.
//! - Every act of the race can fail: it fails when a lock mode lost money, and it fails when the
//!   unlocked mode did not, since then it showed nothing.
//!
//! # What it must not depend on
//! None of Pawl's own crates. It knows Pawl only through the sidecar's HTTP API, as any user's program
//! would; [`pawl`] is that client and doubles as the example in the documentation.

pub mod bank;
pub mod cli;
pub mod clock;
pub mod load;
mod patience;
pub mod pawl;
pub mod race;
pub mod store;
pub mod units;
pub mod wire;
