//! What a caller asks for.

use std::time::Duration;

use pawl_lock::{
    Key, Owner,
    lease::{Mode, Renew},
};

/// The most keys that one acquire may name.
pub const MAX_KEYS: usize = 64;

/// What a caller asks for; what it leaves open is the policy's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// Time to live; default `lease.ttl`, at least what the backend can keep, at most `lease.maxTtl`.
    pub ttl: Option<Duration>,
    /// How long it may queue; default `acquire.wait`, at most `acquire.maxWait`. Zero is a try. One budget for all keys.
    pub wait: Option<Duration>,
    /// The owner's display name; default the sidecar's identity.
    pub owner: Option<Owner>,
    /// Exclusive or shared.
    pub mode: Mode,
    /// Who renews; default `lease.renew`.
    pub renew: Option<Renew>,
    /// The hard cap on the lease's life; default and most `lease.maxHold`.
    pub max_hold: Option<Duration>,
    /// Whether the caller's open stream shows the owner's life, from the grant on. Such a lease has no idle limit, so
    /// the stream must release it when it ends ([`super::Engine::give_up`]).
    pub attached: bool,
}

/// Which keys: one, or several that are taken all or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    /// One. No allocation.
    One(Key),
    /// One to [`MAX_KEYS`], no key twice. They are taken in the order of their bytes, so that two callers that name
    /// them in opposite orders cannot wait for each other.
    Several(Vec<Key>),
}

impl From<Key> for Keys {
    fn from(key: Key) -> Self {
        Self::One(key)
    }
}

impl From<Vec<Key>> for Keys {
    fn from(keys: Vec<Key>) -> Self {
        Self::Several(keys)
    }
}
