//! The sidecar of Pawl: distributed locks for the application beside it, over HTTP on the loopback interface.
//!
//! [`policy`] reads a directory of `LockPolicy` files and gives them to the [`engine`], which drives the slots of
//! `pawl_lock` with the [`backend`]s. The HTTP API is a thin layer over the engine's methods.
//!
//! # Invariants
//! * One thread: the engine's state is in an `Rc<RefCell>` that is never borrowed across an await.
//! * [`engine`] knows no HTTP and no files; a [`backend`] knows no `LockPolicy`; only [`policy`] knows both.
//! * Configuration that cannot work ends the process with 64 before anything is bound; a policy that cannot work is
//!   told in log, metric and `/status` and ends nothing.
//!
//! # Must not depend on
//! A Kubernetes client: the sidecar runs wherever its files are.

pub mod api;
pub mod audience;
pub mod backend;
pub mod cli;
pub mod engine;
pub mod metrics;
pub mod policy;
pub mod run;
pub mod token;
