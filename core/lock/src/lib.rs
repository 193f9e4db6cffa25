//! The lock protocol of Pawl, without a clock, a socket or a driver of its own.
//!
//! Two levels make a lock fast and still safe. A **hold** is a sidecar's ownership of a key at the backend; a
//! **lease** is an application's ownership of the key, and lives inside a hold. One hold serves several leases one
//! after another without a round trip; its backend token `T` and the count `n` of its leases make the fencing tokens
//! `T * 1024 + n`, which climb.
//!
//! # Invariants
//! * Every decision is a function of state, event and `now`; what to do is returned, never done ([`slot`]).
//! * A lease is believed until its [`Deadline`] at the latest, counted from *before* the backend was asked.
//! * An unknown outcome is not a grant; it is compensated until it is known ([`backend::Backend::abandon`]).
//! * Lost never becomes held again.
//!
//! # Must not depend on
//! Kubernetes types, HTTP, any backend's driver, an async runtime, a clock.

pub mod backend;
pub mod lease;
pub mod name;
pub mod quorum;
pub mod slot;
pub mod time;
pub mod token;

pub use backend::{Backend, BackendError};
pub use lease::{LeaseRef, LeaseState, LossReason};
pub use name::{HoldId, Key, Namespace, Owner, PolicyName};
pub use time::{Deadline, Instant, Ttl};
pub use token::{BackendToken, FencingToken};
