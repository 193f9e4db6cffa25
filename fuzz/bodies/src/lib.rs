//! What must hold for any bytes from outside, one function for each place where they come in.
//!
//! A function panics when it does not hold, and whatever it calls may not panic either. The fuzz targets (`fuzz/`) search
//! for such bytes; `tests/seeds.rs` runs the same functions on the seeds and on some thousand mutations of them, so that
//! `make test` knows at once when one is broken.
//!
//! # Must not depend on
//! A runtime, a socket or the time: the same bytes always do the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a function here tells"
)]

pub use {key::key, policy::policy, reply::reply, request::request, review::review};

mod key;
mod policy;
mod reply;
mod request;
mod review;
