//! Who is served from a hold, and when it is let go.

use std::{sync::Arc, time::Duration};

use super::{
    Slot,
    action::{Action, Call},
    leases::Lease,
    phase::{Hold, Phase},
    queue::Waiter,
};
use crate::{
    backend::{ReleaseRequest, RenewRequest},
    lease::{Grant, LeaseRef, MAX_LOCAL_PASSES, Order},
    time::Instant,
    token::FencingToken,
};

/// Holds whose retention ends close to each other are let go together, so that their releases share a write to the
/// server and one turn of the event loop.
const RETAIN_GRAIN: Duration = Duration::from_millis(8);

/// Whether a waiter can have its lease from the hold.
pub(super) enum Admission {
    /// Yes, with this token.
    Granted(FencingToken),
    /// Not before a lease ends, or the quiet time.
    Blocked,
    /// Not before the hold reaches further.
    Renewed,
    /// Not from this hold.
    Elsewhere,
}

impl Slot {
    pub(super) fn admit(&self, now: Instant, hold: &Hold, waiter: &Waiter) -> Admission {
        if self.draining.is_some() || self.quiet_until.is_some_and(|quiet| now < quiet) {
            return Admission::Blocked;
        }
        let is_free = self.leases.is_empty();
        let must_change = hold.attempt.mode != waiter.mode || self.must_yield(hold, waiter);
        let token = hold.next_token().filter(|_| !must_change);
        let Some(token) = token else {
            return if is_free {
                Admission::Elsewhere
            } else {
                Admission::Blocked
            };
        };
        if !is_free && !waiter.mode.is_compatible(hold.attempt.mode) {
            return Admission::Blocked;
        }
        if !hold.is_fresh_for(now, waiter.ttl) {
            return if is_free && hold.is_ending(now) {
                Admission::Elsewhere
            } else {
                Admission::Renewed
            };
        }
        Admission::Granted(token)
    }

    /// Whether a waiter of another sidecar comes before this one.
    fn must_yield(&self, hold: &Hold, waiter: &Waiter) -> bool {
        self.remote_in_the_way(hold)
            .is_some_and(|since| match self.terms.order {
                Order::Fifo => since < waiter.arrived,
                Order::Any => hold.passes >= MAX_LOCAL_PASSES,
            })
    }

    /// Since when another sidecar waits for what it cannot share with the hold.
    pub(super) fn remote_in_the_way(&self, hold: &Hold) -> Option<Instant> {
        let remote = self
            .remote
            .filter(|remote| !remote.mode.is_compatible(hold.attempt.mode))?;
        Some(remote.since)
    }

    /// Gives the waiter its lease from the hold.
    pub(super) fn grant(
        &mut self,
        now: Instant,
        waiter: Waiter,
        token: FencingToken,
        actions: &mut Vec<Action>,
    ) {
        let is_passed = self.remote.is_some();
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        hold.served += 1;
        hold.passes = if is_passed {
            hold.passes.saturating_add(1)
        } else {
            0
        };
        hold.attempt.owner = waiter.owner.clone();
        self.leases_made += 1;
        let lease = LeaseRef(self.leases_made);
        let (id, waited) = (waiter.id, now.saturating_since(waiter.arrived));
        let lease = Lease::granted(now, lease, token, waiter, Arc::clone(&self.terms));
        let grant = Grant {
            lease: lease.id,
            token,
            mode: lease.mode,
            ttl: lease.ttl,
            deadline: lease.deadline(now, hold.deadline),
            waited,
        };
        self.leases.push(lease);
        actions.push(Action::Grant { waiter: id, grant });
    }

    /// Serves waiters from the hold, or lets it go, or renews it. Tells whether something else may follow at once.
    pub(super) fn serve(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Phase::Holding(hold) = &self.phase else {
            return false;
        };
        let admission = self.queue.front().map(|front| self.admit(now, hold, front));
        match admission {
            Some(Admission::Granted(token)) => {
                if let Some(waiter) = self.queue.pop() {
                    self.grant(now, waiter, token, actions);
                }
                return true;
            }
            Some(Admission::Elsewhere) if self.call.is_none() => {
                self.release_hold(now, actions);
                return true;
            }
            _ => {}
        }
        if self.call.is_some() {
            return false;
        }
        if self.leases.is_empty() && self.is_idle_over(now, hold) {
            self.release_hold(now, actions);
            return true;
        }
        let is_wanted = matches!(admission, Some(Admission::Renewed)) || !self.renewals.is_empty();
        let is_due = self.renew_due().is_some_and(|due| due <= now);
        if is_due || (is_wanted && hold.renew_failures == 0) {
            self.renew_hold(now, actions);
        }
        false
    }

    /// Whether a hold without leases is to be let go now.
    fn is_idle_over(&self, now: Instant, hold: &Hold) -> bool {
        if self.draining.is_some() {
            return true;
        }
        if self.quiet_until.is_some_and(|quiet| now < quiet) || !self.queue.is_empty() {
            return false;
        }
        hold.served == 0
            || !self.confirms.is_empty()
            || self.remote_in_the_way(hold).is_some()
            || now >= self.retained_until(hold)
    }

    /// Until when a hold without leases is kept: for `retain`, and to the next [`RETAIN_GRAIN`] of the clock where that is
    /// little beside it.
    pub(super) fn retained_until(&self, hold: &Hold) -> Instant {
        let until = hold.idle_since.saturating_add(self.terms.retain);
        if self.terms.retain < 10 * RETAIN_GRAIN {
            return until;
        }
        until.round_up(RETAIN_GRAIN)
    }

    /// Until when the hold is of use.
    fn useful_until(&self, hold: &Hold) -> Instant {
        let leases = self
            .leases
            .last_end()
            .unwrap_or_else(|| self.retained_until(hold));
        leases.max(self.quiet_until.unwrap_or_default())
    }

    /// When the hold is to be renewed, if it is to reach further and no call is under way.
    pub(super) fn renew_due(&self) -> Option<Instant> {
        let Phase::Holding(hold) = &self.phase else {
            return None;
        };
        let is_wanted =
            !self.renewals.is_empty() || (self.leases.is_empty() && !self.queue.is_empty());
        let is_useful = is_wanted || self.useful_until(hold) > hold.deadline.instant();
        // After a failure the hold must become certain again, even if it reaches far enough.
        (self.call.is_none() && (is_useful || hold.is_uncertain)).then_some(hold.renew_at)
    }

    fn renew_hold(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        let wanted = self
            .leases
            .longest_ttl()
            .max(self.queue.front().map(|front| front.ttl));
        let attempt = &mut hold.attempt;
        attempt.ttl = attempt.ttl.max(wanted.unwrap_or(attempt.ttl));
        attempt.called = now;
        let ttl = attempt.ttl;
        let request = RenewRequest {
            key: self.key.clone(),
            hold: attempt.id,
            mode: attempt.mode,
            token: hold.token,
            ttl,
            owner: attempt.owner.clone(),
        };
        self.start(now, Call::Renew(request), ttl, actions);
    }

    /// Lets the hold go, and asks for the next waiter in the same step.
    ///
    /// If an acquire of the hold was never answered, it may arrive after a release and take the key for nobody: then the
    /// hold is abandoned, which no late call outlives.
    pub(super) fn release_hold(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Phase::Holding(hold) = &self.phase
            && hold.attempt.is_loose
        {
            self.phase = hold.attempt.clone().abandoned(now, None);
            self.remote = None;
            return;
        }
        let is_yielding =
            matches!(&self.phase, Phase::Holding(hold) if self.remote_in_the_way(hold).is_some());
        let next = self.next_attempt(now, is_yielding);
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        let request = ReleaseRequest {
            key: self.key.clone(),
            hold: hold.attempt.id,
            mode: hold.attempt.mode,
            token: hold.token,
            next: next.as_ref().map(|(_, request)| request.clone()),
        };
        let (ttl, hold) = (hold.attempt.ttl, hold.attempt.clone());
        self.phase = Phase::Releasing {
            hold,
            next: next.map(|(attempt, _)| attempt),
        };
        self.remote = None;
        self.start(now, Call::Release(request), ttl, actions);
    }

    /// After how long a failed renewal is tried again: some tries fit into what is left.
    pub(super) fn renew_backoff(&mut self, ttl: Duration, failures: u32) -> Duration {
        let backoff = super::event::Backoff {
            initial: ttl / 20,
            max: ttl / 6,
            factor: 2,
            is_jittered: true,
        };
        self.jitter.delay(backoff, failures)
    }
}
