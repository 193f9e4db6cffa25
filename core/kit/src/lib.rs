//! What Pawl's daemons (sidecar, operator) share: the clock seam, configuration errors, telemetry, the admin server,
//! problem+json, drain, TLS and secret files, and the watching of directories.
//!
//! # Invariants
//! * Nothing here is detached: a task has an owner that waits for it ([`drain::Tasks`]), and what needs a background
//!   task returns the future to the caller instead of spawning it.
//! * Everything is bounded: connections, bodies, files, queues, label values.
//! * No secret is in a log line, an error text or a `Debug` output ([`secrets::Secret`]).
//! * Only [`clock`] reads a clock that a lock decision may hang on.
//!
//! # What it must not depend on
//! Kubernetes, lock backends and their drivers, clap. It knows [`pawl_lock`] only for its `Instant`.

pub mod admin;
pub mod clock;
pub mod config;
pub mod drain;
pub mod metrics;
pub mod problem;
pub mod secrets;
pub mod telemetry;
pub mod tls;
pub mod watch;
