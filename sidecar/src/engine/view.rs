//! What the engine shows of keys and policies. No lease's secret handle is among it.

use std::time::Duration;

use pawl_lock::{FencingToken, Key, Owner, PolicyName, lease::Mode};

/// Who holds a key and how many wait.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyInfo {
    /// Its holders: none, one, or several in shared mode.
    pub holders: Vec<HolderInfo>,
    /// How many wait: callers, where this sidecar holds the key; otherwise sidecars, as the backend counts them.
    pub waiters: u32,
    /// Whether a lease of this sidecar is among the holders, or this sidecar keeps the key without a lease. Then it is
    /// local truth; otherwise the backend's word, for display only.
    pub is_local: bool,
}

/// A holder of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HolderInfo {
    /// Its display name.
    pub owner: Owner,
    /// Its mode.
    pub mode: Mode,
    /// Its fencing token. Of another sidecar's hold: the token of the hold's first lease, which later ones exceed.
    pub token: Option<FencingToken>,
    /// How long it has held.
    pub held_for: Option<Duration>,
    /// When it ends if it is not renewed.
    pub expires_in: Option<Duration>,
}

/// What this sidecar does under a policy. Each list has at most [`super::MAX_LISTED`] entries, sorted by key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyView {
    /// The policy.
    pub name: PolicyName,
    /// The backend's name, such as `redis`.
    pub backend: &'static str,
    /// The leases, one row a key.
    pub leases: Vec<LeaseRow>,
    /// How many leases there are, also those that are not listed.
    pub lease_count: u64,
    /// The keys that this sidecar holds or waits for.
    pub keys: Vec<KeyRow>,
    /// How many keys there are, also those that are not listed.
    pub key_count: u64,
    /// How many callers wait.
    pub waiter_count: u64,
}

/// A key of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseRow {
    /// The key.
    pub key: Key,
    /// The lease's owner.
    pub owner: Owner,
    /// Its mode.
    pub mode: Mode,
    /// Its fencing token.
    pub token: FencingToken,
    /// Whether the backend is silent or failing.
    pub is_uncertain: bool,
    /// How long it has been held.
    pub held_for: Duration,
    /// When it ends if nothing renews it.
    pub expires_in: Duration,
}

/// A key that this sidecar holds or waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRow {
    /// The key.
    pub key: Key,
    /// Whether it is held at the backend, with or without leases.
    pub is_held: bool,
    /// How many leases live in the hold.
    pub leases: u32,
    /// How many callers wait here.
    pub waiters: u32,
}
