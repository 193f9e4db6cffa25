//! The demo from outside: its programs as processes, its stores against real servers, its page in a browser.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

mod bank;
mod cli;
mod fake_sidecar;
mod load;
mod page;
mod pawl;
mod postgres;
mod race;
mod stores;
mod support;
