//! The backend `postgres` on real servers, beyond what the conformance suite asks of every backend. The ids are those of
//! the fault table of the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

#[path = "postgres/helpers.rs"]
mod helpers;
#[path = "postgres/limits.rs"]
mod limits;
#[path = "postgres/sessions.rs"]
mod sessions;
#[path = "postgres/setup.rs"]
mod setup;
#[path = "postgres/tls.rs"]
mod tls;
