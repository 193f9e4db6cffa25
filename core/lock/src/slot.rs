//! The state machine of one (policy, key): a queue of local waiters, at most one backend call under way, and a hold
//! with the leases it serves.
//!
//! A slot has no clock and does nothing itself: [`Slot::on`] takes an instant and an [`Event`] and appends
//! [`Action`]s. Whoever drives it calls [`Event::Tick`] at [`Slot::next_wake`] (late is safe: every belief is computed
//! against its deadline) and passes on what the backend tells.
//!
//! # Rules
//! 1. **Belief.** A lease is believed while `now` is before its deadline, which is the earliest of the hold's
//!    [`Deadline`] (counted from before the backend call that made or extended the hold), its own ttl when its owner
//!    renews it, its idle limit and the end of its `maxHold`. Before any event is looked at, what is over at `now`
//!    is marked lost: a process that slept answers `lost` first.
//! 2. **One call.** At most one backend call is under way. Its start is the instant of the event that caused it.
//! 3. **Unknown is not granted.** An acquire whose outcome is unknown is asked again with the same [`HoldId`] while
//!    somebody waits, and otherwise abandoned until the backend says `Settled` or the ttl since its last call is over.
//!    A hold whose deadline passed is abandoned in the same way: a renewal that was under way may have extended it.
//! 4. **A waiter that left never holds.** Its place is given up at once; a hold that arrives for nobody goes to the
//!    next local waiter, or is let go at once (it is not retained: nobody here used it).
//! 5. **Fifo.** A local waiter follows on the hold without the backend only if no remote waiter is older. Otherwise
//!    the hold is released, with the attempt for the oldest local waiter in the same step, dated back by its age.
//! 6. **Any.** Local waiters follow on the hold; while a remote one waits, at most [`MAX_LOCAL_PASSES`] times.
//! 7. **Retain.** A hold without leases and waiters is kept for `retain` while nobody remote wants it, then released.
//!    A remote want ends it at once. It is not renewed beyond that time.
//! 8. **Modes.** A hold serves leases of its own mode only. Shared leases are served together, as far as the queue
//!    before the first exclusive waiter (local or remote) reaches.
//! 9. **Lock delay.** After a lease ended without release the hold serves nobody for `lock_delay`, and is kept (and
//!    renewed) for that time, so that remote waiters wait too.
//! 10. **Tokens.** The n-th lease of a hold has the token `T * 1024 + n`; after the last one the hold is taken anew.
//! 11. **Ttl.** A hold reaches at least as far as the longest ttl it serves: a lease with a longer ttl than the
//!     hold's is granted after a renewal with that ttl. The hold is renewed every third of its ttl while it serves
//!     an auto-renewed lease or one whose own deadline lies beyond the hold's.
//!
//! [`Deadline`]: crate::Deadline
//! [`HoldId`]: crate::HoldId
//! [`MAX_LOCAL_PASSES`]: crate::lease::MAX_LOCAL_PASSES

use std::sync::Arc;

pub use action::{Action, Call, LeaseChange, Refusal, RenewRefusal};
pub use event::{Acquire, Answer, Backoff, CallId, Event, RenewId, Terms, WaiterId};

use crate::{
    lease::{LeaseRef, LeaseView},
    name::{HoldIds, Key},
    time::Instant,
};

mod action;
mod event;

/// The state of one key. See the [module](self).
#[derive(Debug)]
pub struct Slot {
    #[expect(dead_code, reason = "the state machine is not there yet")]
    state: (Key, Arc<Terms>, HoldIds),
}

/// What a slot is doing, for display.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotView {
    /// The leases that are alive.
    pub leases: Vec<(LeaseRef, LeaseView)>,
    /// How many callers wait.
    pub waiters: u32,
    /// Whether there is a hold, with or without leases, that is believed.
    pub is_held: bool,
}

impl Slot {
    /// A slot that holds nothing. `ids` makes its attempts' ids.
    pub fn new(key: Key, terms: Arc<Terms>, ids: HoldIds) -> Self {
        Self {
            state: (key, terms, ids),
        }
    }

    /// Takes an event, and appends to `actions` what is to be done.
    pub fn on(&mut self, _now: Instant, _event: Event, _actions: &mut Vec<Action>) {}

    /// When [`Event::Tick`] is due at the latest; nothing if no time matters.
    pub fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// A lease as it is at `now`; nothing if it is not, or no longer, this slot's. Lost and released leases are
    /// forgotten once their end was told: the registry remembers them.
    pub fn lease(&self, _now: Instant, _lease: LeaseRef) -> Option<LeaseView> {
        None
    }

    /// What the slot is doing at `now`.
    pub fn view(&self, _now: Instant) -> SlotView {
        SlotView {
            leases: Vec::new(),
            waiters: 0,
            is_held: false,
        }
    }

    /// How many waiters are ahead of this one, local and (as far as known) remote; nothing if it does not wait.
    pub fn ahead(&self, _waiter: WaiterId) -> Option<u32> {
        None
    }

    /// Whether it can be dropped: nothing waits, nothing is held, nothing is under way.
    pub fn is_idle(&self) -> bool {
        true
    }
}
