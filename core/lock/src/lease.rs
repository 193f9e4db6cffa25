//! What an application holds, as it is told.

use std::{fmt, time::Duration};

use crate::{
    time::{Deadline, Instant, Ttl},
    token::FencingToken,
};

/// Which lease of a slot is meant. The secret handle that callers know (`leaseId`) is the registry's; this number is
/// internal, unique within one slot for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseRef(pub u64);

/// How many may own a key at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// One.
    #[default]
    Exclusive,
    /// Any number that all asked for shared mode.
    Shared,
}

impl Mode {
    /// Whether owners of both modes may own a key at the same time.
    pub const fn is_compatible(self, other: Self) -> bool {
        matches!((self, other), (Self::Shared, Self::Shared))
    }

    /// `exclusive` or `shared`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In which order waiters are served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Order {
    /// First come, first served, across all sidecars.
    #[default]
    Fifo,
    /// Fastest: waiters of the holding sidecar may pass a remote one up to [`MAX_LOCAL_PASSES`] times.
    Any,
}

/// How often local waiters may pass a remote one under [`Order::Any`].
pub const MAX_LOCAL_PASSES: u8 = 16;

/// Who renews a lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Renew {
    /// The sidecar, until release, `maxHold` or the idle limit.
    #[default]
    Auto,
    /// The caller: without its renewals the lease ends a ttl after the grant.
    Manual,
}

/// Why a lease ended without its owner's release.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LossReason {
    /// The local deadline passed: nothing was heard from the backend in time.
    Expired,
    /// The caller did not renew in time.
    NotRenewed,
    /// `maxHold` is over.
    MaxHold,
    /// No call named the auto-renewed lease for the policy's idle limit.
    Idle,
    /// The backend said that another holds the key, or nobody.
    NotOwner,
    /// The backend's session ended.
    SessionLost,
    /// The sidecar is shutting down.
    Draining,
    /// The policy was removed, or its backend changed, and the time for that ran out.
    PolicyRemoved,
    /// A sibling of a lease over several keys was lost, so the whole is.
    Sibling,
}

impl LossReason {
    /// All reasons, for label sets and documents.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::NotRenewed,
        Self::MaxHold,
        Self::Idle,
        Self::NotOwner,
        Self::SessionLost,
        Self::Draining,
        Self::PolicyRemoved,
        Self::Sibling,
    ];

    /// The reason as the API and the metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotRenewed => "not_renewed",
            Self::MaxHold => "max_hold",
            Self::Idle => "idle",
            Self::NotOwner => "not_owner",
            Self::SessionLost => "session_lost",
            Self::Draining => "draining",
            Self::PolicyRemoved => "policy_removed",
            Self::Sibling => "sibling",
        }
    }
}

/// What a lease is at an instant. It is computed for each answer and never stored as a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseState {
    /// Before the deadline, the backend answering.
    Held,
    /// Before the deadline, the backend silent or failing.
    Uncertain,
    /// After the deadline, or the backend said so. Final.
    Lost(LossReason),
    /// Released by its owner. Final.
    Released,
}

/// A lease as it is granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Which lease.
    pub lease: LeaseRef,
    /// Its fencing token.
    pub token: FencingToken,
    /// Its mode.
    pub mode: Mode,
    /// Its time to live: how far each renewal reaches.
    pub ttl: Ttl,
    /// When it ends if nothing renews it. Always later than the instant of the grant.
    pub deadline: Deadline,
    /// How long it was waited for.
    pub waited: Duration,
}

/// A lease as it is at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseView {
    /// Its state.
    pub state: LeaseState,
    /// Its fencing token.
    pub token: FencingToken,
    /// Its mode.
    pub mode: Mode,
    /// Its time to live.
    pub ttl: Ttl,
    /// When it ends if nothing renews it.
    pub deadline: Deadline,
    /// When it was granted.
    pub granted: Instant,
}
