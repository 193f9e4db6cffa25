//! Pawl's Kubernetes API: [`LockPolicy`], and the names that pods carry.
//!
//! The types here are the one source of four things that may not drift apart: the custom resource
//! definition (`crds/lockpolicies.pawl.dev.yaml`), its reference (`docs/policy.md`), what the sidecar
//! reads from a directory, and what the operator reads from the API server. The two files are golden: a
//! test fails when they differ from the types, `PAWL_BLESS=1` renews them.
//!
//! # Invariants
//! - A document means the same wherever it is read. Defaults come from the `Default` impls, which also make
//!   the schema's defaults; bounds are checked from the generated schema itself; each cross-field rule is
//!   written once as CEL and once as Rust, side by side, and one table of cases runs through both.
//! - Everything is bounded: each string has a length, each list a size, each number a range, so that the API
//!   server can estimate the cost of each rule.
//! - No secret can be written down: passwords in URLs are refused, secrets are referred to by name, in the
//!   policy's own namespace, and no message repeats a value.
//!
//! # What it must not depend on
//! No runtime, no client, no driver, no other crate of ours. `kube` is here without its client.

mod acquire;
mod address;
mod backend;
pub mod conditions;
mod document;
mod duration;
mod key_pattern;
mod keys;
mod lease;
pub mod names;
mod policy;
mod rule;
mod schema;
mod secret;
mod sidecar;
mod status;
mod structure;
mod validate;

pub use acquire::{Acquire, Jitter, Order, Retry};
pub use backend::{
    Backend, BackendKind, Chosen, Class,
    etcd::Etcd,
    kubernetes::Kubernetes,
    memory::Memory,
    postgres::{Postgres, PostgresMode},
    redis::{Eviction, Redis, RedisCluster, RedisSentinel, RedisTopology},
    redlock::{Redlock, RedlockNode},
    zookeeper::Zookeeper,
};
pub use document::{MAX_DOCUMENT_BYTES, ParseError, parse};
pub use duration::{ApiDuration, InvalidDuration};
pub use key_pattern::{InvalidKeyPattern, KeyPattern};
pub use keys::Keys;
pub use lease::{Lease, Renew};
pub use policy::{LockPolicy, LockPolicySpec, Purpose, is_policy_name};
pub use secret::{SecretRef, Tls};
pub use sidecar::{Auth, Quantity, ResourceAmounts, Resources, Sidecar};
pub use status::{LockPolicyStatus, PodCounts};
pub use validate::{Violation, ViolationReason, validate};
