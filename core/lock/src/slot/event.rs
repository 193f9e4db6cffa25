//! What happens to a slot.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::{Abandoned, Acquired, BackendError, Released, Renewed, Wanted},
    lease::{LeaseRef, Mode, Order, Renew},
    name::Owner,
    time::{Instant, Ttl},
};

/// Which waiter is meant: given by the registry, larger for each later one, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaiterId(pub u64);

/// Which backend call is meant: given by the slot, unique within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// Which renewal request is meant: given by the registry, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RenewId(pub u64);

/// The terms of a policy, as far as a slot follows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// In which order waiters are served.
    pub order: Order,
    /// How long the key stays quiet after a holder was lost.
    pub lock_delay: Duration,
    /// How long an idle hold is kept while no other sidecar wants the key.
    pub retain: Duration,
    /// How long an auto-renewed lease is renewed without a sign of life of its owner; nothing: until `maxHold`.
    pub idle: Option<Duration>,
    /// The backoff between failed attempts.
    pub retry: Backoff,
    /// How often a place in the queue is asked for again when no [`Event::Turn`] came.
    pub poll: Duration,
    /// How long one backend call may take before its outcome is unknown. Never more than half of the call's ttl.
    pub call_timeout: Duration,
}

/// A bounded exponential backoff, usually with full jitter
/// ([Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The first bound, at least a millisecond.
    pub initial: Duration,
    /// The last bound.
    pub max: Duration,
    /// What the bound grows by, 1 to 10.
    pub factor: u32,
    /// Whether a delay is drawn evenly up to the bound; otherwise it is the bound.
    pub is_jittered: bool,
}

/// A caller asks for a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acquire {
    /// The waiter.
    pub waiter: WaiterId,
    /// Exclusive or shared.
    pub mode: Mode,
    /// The lease's ttl.
    pub ttl: Ttl,
    /// Until when it may queue; `now` for a try. A try still waits for the answer of the backend.
    pub wait_until: Instant,
    /// Who renews.
    pub renew: Renew,
    /// The hard cap on the lease's life.
    pub max_hold: Duration,
    /// Whether the owner shows its life by an open stream, so that the idle limit does not apply.
    pub is_attached: bool,
    /// The owner's display name.
    pub owner: Owner,
}

/// What happens to a slot.
#[derive(Debug)]
pub enum Event {
    /// A caller asks for a lease.
    Acquire(Acquire),
    /// A caller that was not answered yet is gone. A grant that raced is for the registry to release.
    Cancel(WaiterId),
    /// A caller renews its lease, with a new ttl if it names one.
    Renew {
        /// The lease.
        lease: LeaseRef,
        /// The request, answered by one [`super::Action::RenewAnswer`].
        id: RenewId,
        /// The new ttl.
        ttl: Option<Ttl>,
    },
    /// A call named the lease: a sign of its owner's life.
    Touch(LeaseRef),
    /// A stream that stands for the lease's owner was opened or closed.
    Attach {
        /// The lease.
        lease: LeaseRef,
        /// Whether one is open.
        is_attached: bool,
    },
    /// A caller releases its lease.
    Release {
        /// The lease.
        lease: LeaseRef,
        /// Whether the backend must have let the hold go (or another lease follow) before it is confirmed.
        confirm: bool,
    },
    /// The registry gives up a lease for a reason of its own.
    Revoke {
        /// The lease.
        lease: LeaseRef,
        /// Why.
        reason: crate::lease::LossReason,
    },
    /// A backend call ended.
    Answer {
        /// Which.
        call: CallId,
        /// How.
        answer: Answer,
    },
    /// Another sidecar wants the key.
    Wanted(Wanted),
    /// The key may be free: ask again. Also for [`crate::backend::BackendEvent::Resync`].
    Turn,
    /// A backend session ended.
    SessionLost {
        /// Which.
        session: u64,
    },
    /// The instant of [`super::Slot::next_wake`] came.
    Tick,
    /// The policy changed. Running leases keep their terms until their next renewal.
    Terms(Arc<Terms>),
    /// No more leases: refuse waiters, end all leases with the reason, let the hold go.
    Drain(crate::lease::LossReason),
}

/// How a backend call ended. The variant is that of the call.
#[derive(Debug)]
pub enum Answer {
    /// Of an acquire.
    Acquire(Result<Acquired, BackendError>),
    /// Of a renewal.
    Renew(Result<Renewed, BackendError>),
    /// Of a release.
    Release(Result<Released, BackendError>),
    /// Of an abandonment.
    Abandon(Result<Abandoned, BackendError>),
}
