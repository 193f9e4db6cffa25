//! Types and reasons of a policy's conditions.
//!
//! A condition changes only on a transition. Reasons are API: dashboards and alerts match on them.

/// The document makes sense and the operator took it on.
pub const ACCEPTED: &str = "Accepted";
/// Every bound sidecar that reports can lock with the backend.
pub const BACKEND_READY: &str = "BackendReady";
/// Every bound sidecar runs the newest generation.
pub const PROPAGATED: &str = "Propagated";
/// All of the above; the column READY.
pub const READY: &str = "Ready";

/// All types, in the order in which they are written.
pub const TYPES: [&str; 4] = [ACCEPTED, BACKEND_READY, PROPAGATED, READY];

/// Reasons, by the condition they belong to.
pub mod reasons {
    /// `Accepted`: all is well.
    pub const VALID: &str = "Valid";
    /// `Accepted`: a rule is broken that the API server did not know (an older definition).
    pub const INVALID: &str = "Invalid";
    /// `Accepted`: a Secret that it names does not exist or lacks a key. Told by the kubelet, not read by us.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// `Accepted`: the name of its `ConfigMap` is taken by one that the operator did not make.
    pub const CONFLICT: &str = "Conflict";
    /// `Accepted`: the sidecars' version has no such backend.
    pub const BACKEND_NOT_BUILT: &str = "BackendNotBuilt";

    /// `BackendReady`: all is well.
    pub const CONNECTED: &str = "Connected";
    /// `BackendReady`: no sidecar has reported yet.
    pub const UNKNOWN: &str = "Unknown";
    /// `BackendReady`: nothing answers at the address.
    pub const UNREACHABLE: &str = "Unreachable";
    /// `BackendReady`: user name or password refused, or a right is missing.
    pub const AUTH_FAILED: &str = "AuthFailed";
    /// `BackendReady`: certificate expired, for another name, or by an unknown authority.
    pub const TLS_FAILED: &str = "TlsFailed";
    /// `BackendReady`: the server may evict keys (`maxmemory-policy` other than `noeviction`).
    pub const EVICTION_UNSAFE: &str = "EvictionUnsafe";
    /// `BackendReady`: a transaction pooler stands before `mode: Advisory`.
    pub const POOLER_DETECTED: &str = "PoolerDetected";
    /// `BackendReady`: there are replicas and `waitReplicas` is 0: a failover may forget a lock.
    pub const REPLICAS_UNCONFIRMED: &str = "ReplicasUnconfirmed";
    /// `BackendReady`: the server cannot end a lock as early as `lease.ttl` says.
    pub const TTL_BELOW_FLOOR: &str = "TtlBelowFloor";
    /// `BackendReady`: the server is of a version that lacks what is needed.
    pub const VERSION_UNSUPPORTED: &str = "VersionUnsupported";
    /// `BackendReady`: no quorum of nodes answers.
    pub const QUORUM_LOST: &str = "QuorumLost";
    /// `BackendReady`: the schema, table or path is missing and may not be made by this user.
    pub const SCHEMA_MISSING: &str = "SchemaMissing";
    /// `BackendReady`: the server is full (memory, connections, disk).
    pub const BACKEND_FULL: &str = "BackendFull";

    /// `Propagated`: all is well.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// `Propagated`: some sidecars still run an older generation.
    pub const PENDING: &str = "Pending";
    /// `Propagated`: no pod is bound.
    pub const NO_PODS: &str = "NoPods";
    /// `Propagated`: a bound pod has no sidecar.
    pub const SIDECAR_MISSING: &str = "SidecarMissing";
    /// `Propagated`: a sidecar kept its last good policy because this one does not load.
    pub const REJECTED: &str = "Rejected";
    /// `Propagated`: a change of backend waits for running leases to end.
    pub const DRAINING: &str = "Draining";

    /// `Ready`: all is well.
    pub const READY: &str = "Ready";
    /// `Ready`: another condition is false; the message names it.
    pub const NOT_READY: &str = "NotReady";
}
