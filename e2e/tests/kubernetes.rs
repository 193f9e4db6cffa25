//! What the backend `kubernetes` does on a real API server beyond the conformance suite.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

#[path = "kubernetes/server.rs"]
mod server;
