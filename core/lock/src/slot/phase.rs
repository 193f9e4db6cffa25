//! Where a slot stands with the backend.

use std::time::Duration;

use crate::{
    backend::Granted,
    lease::Mode,
    name::{HoldId, Owner},
    time::{Deadline, Instant, Ttl},
    token::{BackendToken, FencingToken},
};

/// Where a slot stands with the backend.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nothing of this slot is there.
    Free {
        /// No attempt before this: the last one failed.
        retry_at: Option<Instant>,
    },
    /// An acquire is under way.
    Asking(Attempt),
    /// The attempt has a place in the queue, or may have been granted without our knowing.
    Waiting {
        attempt: Attempt,
        /// When to ask again at the latest.
        ask_at: Instant,
        /// How many places are ahead, as the backend last said.
        ahead: Option<u32>,
    },
    /// A hold is there, and believed until its deadline.
    Holding(Hold),
    /// A release is under way, with the next attempt in it.
    Releasing {
        hold: Attempt,
        next: Option<Attempt>,
    },
    /// Something may be there and must go.
    Abandoning {
        attempt: Attempt,
        /// Nothing of it outlives this.
        until: Instant,
        /// When to ask for it (again).
        ask_at: Instant,
        failures: u32,
        /// An attempt that may have a place, to go on with.
        then: Option<Attempt>,
    },
}

/// Something that was asked for under one id.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: HoldId,
    pub(super) mode: Mode,
    /// Never less than in any earlier call of this id: a late call must not shorten what a later one reached.
    pub(super) ttl: Ttl,
    pub(super) owner: Owner,
    /// The arrival of the waiter that it asks for.
    pub(super) arrived: Instant,
    /// Whether it gives way to who waits elsewhere, whatever the policy's order: it follows a hold that was let go for them.
    pub(super) is_yielding: bool,
    /// Whether it asked for a place.
    pub(super) is_placed: bool,
    /// When its last call began.
    pub(super) called: Instant,
    /// How often in a row its outcome stayed open.
    pub(super) failures: u32,
    /// Whether an acquire of it was never answered: it may still be on its way, and must find the attempt abandoned.
    pub(super) is_loose: bool,
}

impl Attempt {
    /// After this nothing of it is left at the backend, if no call of it is still under way.
    pub(super) fn gone_at(&self) -> Instant {
        self.called.saturating_add(self.ttl.as_duration())
    }

    /// Goes away: asked for at once, and until nothing of it can be left.
    pub(super) fn abandoned(self, now: Instant, then: Option<Self>) -> Phase {
        let until = self.gone_at();
        Phase::Abandoning {
            attempt: self,
            until,
            ask_at: now,
            failures: 0,
            then,
        }
    }
}

/// A hold.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    /// The attempt that it came from.
    pub(super) attempt: Attempt,
    pub(super) token: BackendToken,
    pub(super) session: u64,
    pub(super) deadline: Deadline,
    pub(super) served: u16,
    /// Local grants since a remote waiter stood in the way.
    pub(super) passes: u8,
    pub(super) is_uncertain: bool,
    pub(super) renew_at: Instant,
    pub(super) renew_failures: u32,
    /// Since when it serves nobody.
    pub(super) idle_since: Instant,
}

impl Hold {
    pub(super) fn new(now: Instant, attempt: Attempt, granted: Granted) -> Self {
        let Granted {
            token,
            session,
            wanted: _,
        } = granted;
        Self {
            deadline: Deadline::after(attempt.called, attempt.ttl),
            renew_at: third(attempt.called, attempt.ttl),
            attempt,
            token,
            session,
            served: 0,
            passes: 0,
            is_uncertain: false,
            renew_failures: 0,
            idle_since: now,
        }
    }

    /// The token of the next lease, if there is one left.
    pub(super) fn next_token(&self) -> Option<FencingToken> {
        self.token.lease(self.served)
    }

    /// A renewal that was asked for at `called` reached.
    pub(super) fn extended(&mut self, called: Instant) {
        self.deadline = Deadline::after(called, self.attempt.ttl);
        self.renew_at = third(called, self.attempt.ttl);
        self.is_uncertain = false;
        self.renew_failures = 0;
    }

    /// Whether so much of it is left that a lease of `ttl` can begin without a renewal: half.
    pub(super) fn is_fresh_for(&self, now: Instant, ttl: Ttl) -> bool {
        self.attempt.ttl >= ttl && self.deadline.left(now) >= Deadline::validity(ttl) / 2
    }

    /// Whether so little of it is left that a renewal may be answered too late to count, with the waiters' place gone: an
    /// eighth.
    pub(super) fn is_ending(&self, now: Instant) -> bool {
        self.deadline.left(now) < Deadline::validity(self.attempt.ttl) / 8
    }
}

fn third(called: Instant, ttl: Ttl) -> Instant {
    called.saturating_add(ttl.as_duration() / 3)
}

/// The oldest waiter elsewhere that this sidecar knows of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub(super) mode: Mode,
    /// When it came, on this machine's clock.
    pub(super) since: Instant,
    /// When it was told.
    pub(super) noted: Instant,
}

impl Remote {
    pub(super) fn new(now: Instant, mode: Mode, age: Duration) -> Self {
        Self {
            mode,
            since: now.saturating_sub(age),
            noted: now,
        }
    }
}
