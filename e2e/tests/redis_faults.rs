//! The faults of `TESTS.md` (R rows) as the backend `redis` alone shows them, on real servers. Those that need a slot's
//! deadline are tried on whole sidecars.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod redis_faults {
    mod bench;
    mod connections;
    mod counts;
    mod errors;
    mod memory;
    mod newer;
    mod replicas;
    mod security;
    mod state;
}
