//! Brings policies to the sidecars of pods, and tells in their status how far they are.
//!
//! # Flow of one policy
//! [`dereference`] gathers what belongs to it out of what is watched; [`validate`] decides whether it can be used;
//! [`render`] makes the ConfigMap that the sidecars mount; [`assess`] makes the status; [`apply`] writes what differs,
//! and alone talks to the API server. All between the two ends is a function of what was gathered.
//!
//! # Flow of one pod
//! [`follow`] asks a pod's sidecar what it serves ([`report`]), and touches the pod while it is behind, so that the kubelet
//! refreshes the mount at once instead of within its minute.
//!
//! # Invariants
//! - Only the leader writes, and asks [`crate::leader::Leadership::check`] before each write.
//! - A write happens only where something differs: an operator with nothing to do is silent.
//! - One bad object never stops the others: a policy is read as raw JSON first, and each is reconciled apart.
//! - Secrets are never read. Nothing is finalized: what was made for a policy has it as its owner, and goes with it.

pub mod apply;
pub mod assess;
pub mod bound;
mod controller;
pub mod dereference;
mod events;
mod fetch;
mod follow;
mod lookup;
pub mod observed;
pub mod render;
pub mod report;
mod reports;
pub mod validate;

pub use controller::{Controller, Parts};
pub use lookup::Lookup;
pub use observed::{ObservedPolicy, Policies};
