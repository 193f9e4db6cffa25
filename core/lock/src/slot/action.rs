//! What a slot wants done.

use std::{sync::Arc, time::Duration};

use super::event::{CallId, RenewId, WaiterId};
use crate::{
    backend::{AbandonRequest, AcquireRequest, BackendError, Holder, ReleaseRequest, RenewRequest},
    lease::{Grant, LeaseRef, LossReason},
    time::Deadline,
};

/// What a slot wants done, in this order.
#[derive(Debug)]
pub enum Action {
    /// Call the backend and tell the slot the [`super::Answer`]. At most one call of a slot is under way.
    Call {
        /// Which.
        id: CallId,
        /// What.
        call: Call,
        /// After how long its outcome is [`BackendError::timeout`].
        timeout: Duration,
    },
    /// A waiter has its lease. The registry answers the caller, or releases the lease if the caller is gone.
    Grant {
        /// Who.
        waiter: WaiterId,
        /// What it got.
        grant: Grant,
    },
    /// A waiter has no lease and is no longer in the queue.
    Refuse {
        /// Who.
        waiter: WaiterId,
        /// Why.
        refusal: Refusal,
    },
    /// Answers an [`super::Event::Renew`].
    RenewAnswer {
        /// Which.
        id: RenewId,
        /// The new deadline, or why not.
        result: Result<Deadline, RenewRefusal>,
    },
    /// A lease changed in a way that a stream shows.
    Lease {
        /// Which.
        lease: LeaseRef,
        /// How.
        change: LeaseChange,
    },
    /// A release that asked for confirmation is done at the backend, or another lease of this sidecar followed it.
    /// `Err`: the backend did not confirm before the hold's ttl was over.
    Confirmed {
        /// Which.
        lease: LeaseRef,
        /// How it ended.
        result: Result<(), Arc<BackendError>>,
    },
}

/// A backend call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// [`crate::Backend::acquire`].
    Acquire(AcquireRequest),
    /// [`crate::Backend::renew`].
    Renew(RenewRequest),
    /// [`crate::Backend::release`].
    Release(ReleaseRequest),
    /// [`crate::Backend::abandon`].
    Abandon(AbandonRequest),
}

/// Why a waiter got no lease.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Another holds the key, and the time to wait is over.
    Held {
        /// Who, if it is known.
        holder: Option<Holder>,
        /// When asking again makes sense, if it is known.
        retry_in: Option<Duration>,
    },
    /// The backend failed. With [`crate::backend::Outcome::Unknown`] the outcome is being compensated.
    Backend(Arc<BackendError>),
    /// The slot is draining.
    Draining(LossReason),
}

/// Why a lease was not renewed.
#[derive(Clone, Debug)]
pub enum RenewRefusal {
    /// It is lost.
    Lost(LossReason),
    /// The slot does not know the lease: it was released, or never was.
    Unknown,
    /// The backend failed. The lease lives on to its deadline.
    Backend(Arc<BackendError>),
}

/// A change of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseChange {
    /// It reaches further, and it is certain (again).
    Renewed {
        /// The new deadline.
        deadline: Deadline,
    },
    /// The backend is silent or failing.
    Uncertain,
    /// It is lost. The last change of a lease that was not released.
    Lost(LossReason),
}
