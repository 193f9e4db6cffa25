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
use jitter::Jitter;
use leases::Leases;
use phase::{Hold, Phase, Remote};
use queue::{Queue, Waiter};
use serve::Admission;

use crate::{
    backend::{BackendError, Busy},
    lease::{LeaseRef, LeaseView, LossReason, Order},
    name::{HoldIds, Key},
    time::Instant,
};

mod action;
mod ask;
mod end;
mod event;
mod jitter;
mod leases;
mod phase;
mod queue;
mod serve;
mod view;

/// The state of one key. See the [module](self).
#[derive(Clone, Debug)]
pub struct Slot {
    key: Key,
    terms: Arc<Terms>,
    ids: HoldIds,
    jitter: Jitter,
    queue: Queue,
    leases: Leases,
    phase: Phase,
    /// The call that is under way and when it began. It outlives its phase when the hold ends meanwhile.
    call: Option<(CallId, Instant)>,
    remote: Option<Remote>,
    /// Told to ask while a call was under way.
    turn: bool,
    /// Until when nobody is served, after a lease ended without release.
    quiet_until: Option<Instant>,
    /// Renewals that wait for the hold to reach further: since when.
    renewals: Vec<(RenewId, LeaseRef, Instant)>,
    /// Released leases whose end at the backend is to be confirmed.
    confirms: Vec<LeaseRef>,
    draining: Option<LossReason>,
    last_busy: Option<Busy>,
    last_error: Option<Arc<BackendError>>,
    /// Whether asking again cannot help before somebody changed something.
    is_hopeless: bool,
    /// Failed acquires in a row.
    failures: u32,
    calls_made: u64,
    leases_made: u64,
    /// The latest instant that was seen: time does not run backwards here.
    latest: Instant,
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
    pub fn new(key: Key, terms: Arc<Terms>, mut ids: HoldIds) -> Self {
        let jitter = Jitter::seeded_by(ids.next_id());
        Self {
            key,
            terms,
            ids,
            jitter,
            queue: Queue::default(),
            leases: Leases::default(),
            phase: Phase::Free { retry_at: None },
            call: None,
            remote: None,
            turn: false,
            quiet_until: None,
            renewals: Vec::new(),
            confirms: Vec::new(),
            draining: None,
            last_busy: None,
            last_error: None,
            is_hopeless: false,
            failures: 0,
            calls_made: 0,
            leases_made: 0,
            latest: Instant::default(),
        }
    }

    /// Takes an event, and appends to `actions` what is to be done.
    pub fn on(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        let now = self.latest.max(now);
        self.latest = now;
        self.expire(now, actions);
        match event {
            Event::Acquire(acquire) => self.arrive(now, Waiter::new(now, acquire), actions),
            Event::Cancel(waiter) => {
                self.queue.remove(waiter);
            }
            Event::Renew { lease, id, ttl } => self.renew_lease(now, lease, id, ttl, actions),
            Event::Touch(lease) => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.sign_of_life(now);
                }
            }
            Event::Attach { lease, is_attached } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.attach(now, is_attached);
                }
            }
            Event::Release { lease, confirm } => self.release_lease(now, lease, confirm, actions),
            Event::Revoke { lease, reason } => self.revoke(now, lease, reason, actions),
            Event::Answer { call, answer } => {
                self.answered(now, call, answer, actions);
                self.refuse_answered(now, actions);
            }
            Event::Wanted(wanted) => self.want(now, Remote::new(now, wanted.mode, wanted.age)),
            Event::Turn => self.turn = true,
            Event::SessionLost { session } => self.session_lost(session, actions),
            Event::Tick => {}
            Event::Terms(terms) => self.terms = terms,
            Event::Drain(reason) => self.drain(reason, actions),
        }
        self.settle(now, actions);
    }

    /// A waiter comes: it is served at once if nothing stands in the way, and otherwise queues.
    fn arrive(&mut self, now: Instant, waiter: Waiter, actions: &mut Vec<Action>) {
        if let Some(reason) = self.draining {
            actions.push(Action::Refuse {
                waiter: waiter.id,
                refusal: Refusal::Draining(reason),
            });
            return;
        }
        if let Phase::Holding(hold) = &self.phase
            && self.queue.is_empty()
            && let Admission::Granted(token) = self.admit(now, hold, &waiter)
        {
            self.grant(now, waiter, token, actions);
            return;
        }
        self.queue.push(waiter);
    }

    fn want(&mut self, now: Instant, remote: Remote) {
        let older = self.remote.filter(|known| known.since <= remote.since);
        self.remote = Some(Remote {
            noted: now,
            ..older.unwrap_or(remote)
        });
    }

    /// Does what follows from the state, until nothing more follows.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.step(now, actions) {}
        if !self.is_answer_due() && self.refuse_over(now, actions) {
            while self.step(now, actions) {}
        }
        if !self.confirms.is_empty() && !self.leases.is_empty() {
            // Another lease of this sidecar has followed on the hold.
            self.confirm_all(&Ok(()), actions);
        }
    }

    /// One step; tells whether another may follow.
    fn step(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let is_leaving = self.queue.is_empty() || self.draining.is_some();
        match &self.phase {
            Phase::Asking(_) | Phase::Releasing { .. } => false,
            Phase::Holding(_) => self.serve(now, actions),
            Phase::Free { retry_at } => {
                if !is_leaving
                    && self.call.is_none()
                    && retry_at.is_none_or(|retry_at| retry_at <= now)
                {
                    self.ask_first(now, actions);
                }
                false
            }
            Phase::Waiting {
                attempt, ask_at, ..
            } => {
                let front = self.queue.front();
                if is_leaving || front.is_some_and(|front| front.mode != attempt.mode) {
                    self.phase = attempt.clone().abandoned(now, None);
                    return true;
                }
                let is_dated = self.terms.order == Order::Fifo;
                let is_other =
                    is_dated && front.is_some_and(|front| front.arrived != attempt.arrived);
                if self.call.is_none() && (self.turn || is_other || *ask_at <= now) {
                    let attempt = attempt.clone();
                    self.ask_again(now, attempt, actions);
                }
                false
            }
            Phase::Abandoning { until, ask_at, .. } => {
                if self.call.is_some() {
                    return false;
                }
                if *until <= now {
                    self.end_abandoning(now, actions);
                    return true;
                }
                if *ask_at <= now {
                    self.ask_abandon(now, actions);
                }
                false
            }
        }
    }

    /// Whether a call is under way whose answer decides about the first waiter.
    fn is_answer_due(&self) -> bool {
        let is_called = self.call.is_some();
        match &self.phase {
            Phase::Asking(_) | Phase::Releasing { .. } => true,
            Phase::Free { retry_at } => is_called && retry_at.is_none(),
            Phase::Abandoning { failures, .. } => is_called && *failures == 0,
            Phase::Holding(hold) => {
                let front = self.queue.front();
                is_called
                    && front.is_some_and(|front| {
                        matches!(self.admit(self.latest, hold, front), Admission::Renewed)
                    })
            }
            Phase::Waiting { .. } => false,
        }
    }

    /// When [`Event::Tick`] is due at the latest; nothing if no time matters.
    pub fn next_wake(&self) -> Option<Instant> {
        let waiters = self.queue.next_end().filter(|_| !self.is_answer_due());
        let is_callable = self.call.is_none();
        let phase = match &self.phase {
            Phase::Asking(_) | Phase::Releasing { .. } => None,
            Phase::Free { retry_at } => retry_at.filter(|_| is_callable && !self.queue.is_empty()),
            Phase::Waiting { ask_at, .. } => Some(*ask_at).filter(|_| is_callable),
            Phase::Abandoning { until, ask_at, .. } => {
                Some(*ask_at.min(until)).filter(|_| is_callable)
            }
            Phase::Holding(hold) => Some(self.hold_wake(hold)),
        };
        [waiters, phase, self.leases.next_end()]
            .into_iter()
            .flatten()
            .min()
    }

    fn hold_wake(&self, hold: &Hold) -> Instant {
        let mut wake = hold.deadline.instant();
        if let Some(renew) = self.renew_due() {
            wake = wake.min(renew);
        }
        if let Some(quiet) = self.quiet_until
            && self.latest < quiet
        {
            wake = wake.min(quiet);
        } else if self.leases.is_empty() && self.queue.is_empty() && self.call.is_none() {
            wake = wake.min(self.retained_until(hold));
        }
        wake
    }

    /// Whether it can be dropped: nothing waits, nothing is held, nothing is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Free { .. }) && self.call.is_none() && self.queue.is_empty()
    }
}
