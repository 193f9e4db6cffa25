//! The faults of `TESTS.md` (R rows) as the backend `redis` alone shows them, on real servers. Those that need a slot's
//! deadline are tried on whole sidecars.

mod redis_faults {
    mod bench;
    mod connections;
    mod counts;
    mod errors;
    mod memory;
    mod replicas;
    mod security;
    mod state;
}
