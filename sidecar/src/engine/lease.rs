//! What the engine tells about a lease.

use std::time::Duration;

use pawl_kit::clock::Wall;
use pawl_lock::{
    Deadline, FencingToken, Key, LossReason, Owner, PolicyName, Ttl,
    lease::{Mode, Renew},
};
use tokio::sync::watch;

use super::LeaseId;

/// A lease as it is granted: over one key or several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The lease's secret handle.
    pub lease_id: LeaseId,
    /// The policy.
    pub policy: PolicyName,
    /// Each key with its token, in the order of the keys' bytes; at least one.
    pub grants: Vec<KeyGrant>,
    /// Its mode.
    pub mode: Mode,
    /// Its time to live.
    pub ttl: Ttl,
    /// When it ends if nothing renews it: the earliest deadline of its keys. `deadline.left(clock.now())` is
    /// `expiresInMs`.
    pub deadline: Deadline,
    /// The deadline as a time of day, for people.
    pub valid_until: Wall,
    /// How long it was waited for.
    pub waited: Duration,
}

/// A key of a lease and the token for the resource that it guards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyGrant {
    /// The key.
    pub key: Key,
    /// Its fencing token.
    pub token: FencingToken,
}

/// A lease that is alive, computed against its deadline at the instant of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseInfo {
    /// The policy.
    pub policy: PolicyName,
    /// Each key with its token, in the order of the keys' bytes; at least one.
    pub grants: Vec<KeyGrant>,
    /// Its owner.
    pub owner: Owner,
    /// Its mode.
    pub mode: Mode,
    /// Who renews it.
    pub renew: Renew,
    /// Its time to live.
    pub ttl: Ttl,
    /// Whether the backend is silent or failing for any of its keys.
    pub is_uncertain: bool,
    /// When it ends if nothing renews it.
    pub deadline: Deadline,
    /// How long that is from now. Never zero.
    pub expires_in: Duration,
    /// The deadline as a time of day.
    pub valid_until: Wall,
    /// When it was granted.
    pub granted_at: Wall,
    /// How long ago that was.
    pub held_for: Duration,
}

/// A change of a lease, as a stream shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseEvent {
    /// It reaches further, and is certain (again).
    Renewed {
        /// The new deadline.
        deadline: Deadline,
    },
    /// The backend is silent or failing; the lease is good until this deadline.
    Uncertain {
        /// When it ends if nothing renews it.
        deadline: Deadline,
    },
    /// It is lost. The last event.
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// Its owner released it. The last event.
    Released,
}

impl LeaseEvent {
    /// Whether no event follows.
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Released)
    }
}

/// The changes of one lease from the subscription on. Bounded: a reader that is slow sees the latest change only, and
/// always the last.
#[derive(Debug)]
pub struct LeaseEvents {
    pub(super) changes: watch::Receiver<Option<LeaseEvent>>,
    pub(super) is_over: bool,
}

impl LeaseEvents {
    /// The next change; nothing after the last one ([`LeaseEvent::is_last`]). Cancel safe.
    pub async fn next(&mut self) -> Option<LeaseEvent> {
        if self.is_over {
            return None;
        }
        loop {
            let is_closed = self.changes.changed().await.is_err();
            let change = *self.changes.borrow_and_update();
            if is_closed {
                self.is_over = true;
                return None;
            }
            if let Some(change) = change {
                self.is_over = change.is_last();
                return Some(change);
            }
        }
    }
}
