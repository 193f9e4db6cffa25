//! The backends: how a sidecar talks to each lock service.
//!
//! One module a service, each an implementation of [`pawl_lock::Backend`] with a plain configuration structure of its
//! own; none knows a `LockPolicy`. What each guarantees and what not is in `docs/backends.md`, and one conformance
//! suite (`pawl_e2e::conformance`) holds them all to the same contract.

pub use scope::Scope;

mod ear;
mod hint;
pub mod kubernetes;
pub mod memory;
pub mod postgres;
pub mod redis;
pub mod redlock;
mod scope;
