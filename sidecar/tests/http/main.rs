//! The lock API over real sockets, byte by byte, against the program itself.
//!
//! Each row of TESTS.md, section 3, that speaks of HTTP has its test here. Golden bodies lie in `tests/golden`;
//! `PAWL_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test")]

mod body;
mod capacity;
mod examples;
mod golden;
mod idempotency;
mod key;
mod openapi;
mod ownership;
mod protocol;
mod raw;
mod sidecar;
mod stream;
mod token;
mod verbs;
