//! How leases, waits and holds end.

use std::sync::Arc;

use super::{
    Slot,
    action::{Action, LeaseChange, Refusal, RenewRefusal},
    event::RenewId,
    phase::{Hold, Phase},
};
use crate::{
    backend::{BackendError, Holder},
    lease::{LeaseRef, LossReason},
    time::{Deadline, Instant, Ttl},
};

impl Slot {
    /// Marks as lost what is over at `now`. Comes before anything else that happens at `now`.
    pub(super) fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Holding(hold) = &self.phase else {
            return;
        };
        let end = hold.deadline;
        while let Some((lease, reason)) = self.leases.pop_over(now.min(end.instant())) {
            self.left(now);
            self.keep_quiet(now, lease.lock_delay());
            self.tell_lost(lease.id, reason, actions);
        }
        if end.is_over(now) {
            self.hold_expired(now, actions);
        }
    }

    fn hold_expired(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Holding(hold) = &self.phase else {
            return;
        };
        let is_quiet = self.quiet_until.is_some_and(|quiet| now < quiet);
        if is_quiet
            || self
                .leases
                .iter()
                .any(|lease| !lease.lock_delay().is_zero())
        {
            // Left to expire at the backend, which then keeps the key quiet: letting it go would look like a release.
            self.phase = Phase::Free { retry_at: None };
            self.confirm_all(&Ok(()), actions);
        } else if self.call.is_some() || self.queue.is_empty() {
            // A renewal that is under way may yet reach: the hold must go.
            self.phase = hold.attempt.clone().abandoned(now, None);
        } else {
            // The waiters here have no place at the backend: they take one before others are told of the end.
            self.release_hold(now, actions);
        }
        self.lose_all(LossReason::Expired, actions);
    }

    /// All leases are lost with their hold.
    pub(super) fn lose_all(&mut self, reason: LossReason, actions: &mut Vec<Action>) {
        while let Some(lease) = self.leases.pop() {
            self.tell_lost(lease.id, reason, actions);
        }
        // The backend keeps the key quiet now that the hold is gone.
        self.quiet_until = None;
        self.remote = None;
    }

    fn tell_lost(&mut self, lease: LeaseRef, reason: LossReason, actions: &mut Vec<Action>) {
        actions.push(Action::Lease {
            lease,
            change: LeaseChange::Lost(reason),
        });
        self.refuse_renewals(lease, &RenewRefusal::Lost(reason), actions);
    }

    /// A lease has left the hold, which may serve nobody now.
    fn left(&mut self, now: Instant) {
        if self.leases.is_empty()
            && let Phase::Holding(hold) = &mut self.phase
        {
            hold.idle_since = now;
        }
    }

    fn keep_quiet(&mut self, now: Instant, delay: std::time::Duration) {
        if !delay.is_zero() {
            self.quiet_until = self.quiet_until.max(Some(now.saturating_add(delay)));
        }
    }

    pub(super) fn release_lease(
        &mut self,
        now: Instant,
        lease: LeaseRef,
        confirm: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.leases.remove(lease).is_none() {
            return;
        }
        self.left(now);
        self.refuse_renewals(lease, &RenewRefusal::Unknown, actions);
        if confirm {
            self.confirms.push(lease);
        }
    }

    pub(super) fn revoke(
        &mut self,
        now: Instant,
        lease: LeaseRef,
        reason: LossReason,
        actions: &mut Vec<Action>,
    ) {
        if let Some(revoked) = self.leases.remove(lease) {
            self.left(now);
            self.keep_quiet(now, revoked.lock_delay());
            self.tell_lost(lease, reason, actions);
        }
    }

    pub(super) fn session_lost(&mut self, session: u64, actions: &mut Vec<Action>) {
        // A grant of this session may still be under way. Sessions are numbered upwards.
        self.lost_session = self.lost_session.max(Some(session));
        if matches!(&self.phase, Phase::Holding(hold) if hold.session == session) {
            self.phase = Phase::Free { retry_at: None };
            self.confirm_all(&Ok(()), actions);
            self.lose_all(LossReason::SessionLost, actions);
        }
    }

    pub(super) fn drain(&mut self, reason: LossReason, actions: &mut Vec<Action>) {
        self.draining = Some(reason);
        while let Some(waiter) = self.queue.pop() {
            actions.push(Action::Refuse {
                waiter: waiter.id,
                refusal: Refusal::Draining(reason),
            });
        }
        self.lose_all(reason, actions);
    }

    pub(super) fn renew_lease(
        &mut self,
        now: Instant,
        lease: LeaseRef,
        id: RenewId,
        ttl: Option<Ttl>,
        actions: &mut Vec<Action>,
    ) {
        let terms = Arc::clone(&self.terms);
        let (Some(found), Phase::Holding(hold)) = (self.leases.get_mut(lease), &self.phase) else {
            actions.push(Action::RenewAnswer {
                id,
                result: Err(RenewRefusal::Unknown),
            });
            return;
        };
        found.renew(now, ttl, terms);
        if is_covered(now, hold, found.ttl) {
            let deadline = found.deadline(now, hold.deadline);
            actions.push(Action::Lease {
                lease,
                change: LeaseChange::Renewed { deadline },
            });
            actions.push(Action::RenewAnswer {
                id,
                result: Ok(deadline),
            });
        } else {
            self.renewals.push((id, lease, now));
        }
    }

    /// A renewal of the hold that began at `called` reached.
    pub(super) fn answer_renewals(
        &mut self,
        now: Instant,
        hold: &Hold,
        called: Instant,
        actions: &mut Vec<Action>,
    ) {
        let leases = &self.leases;
        self.renewals.retain(|(id, lease, asked)| {
            let Some(found) = leases.get(*lease) else {
                return false;
            };
            let is_answered = (*asked <= called && hold.attempt.ttl >= found.ttl)
                || is_covered(now, hold, found.ttl);
            if is_answered {
                let deadline = found.deadline(now, hold.deadline);
                actions.push(Action::RenewAnswer {
                    id: *id,
                    result: Ok(deadline),
                });
            }
            !is_answered
        });
    }

    fn refuse_renewals(
        &mut self,
        lease: LeaseRef,
        refusal: &RenewRefusal,
        actions: &mut Vec<Action>,
    ) {
        self.renewals.retain(|(id, of, _)| {
            if *of == lease {
                actions.push(Action::RenewAnswer {
                    id: *id,
                    result: Err(refusal.clone()),
                });
            }
            *of != lease
        });
    }

    /// After an answer: who only tried, or whose patience is over, has had it, and where asking is hopeless so has everyone.
    pub(super) fn refuse_answered(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.is_hopeless) {
            while let Some(waiter) = self.queue.pop() {
                let refusal = self.refusal(now);
                actions.push(Action::Refuse {
                    waiter: waiter.id,
                    refusal,
                });
            }
        } else if matches!(self.phase, Phase::Free { .. } | Phase::Waiting { .. })
            && self.has_answer()
        {
            self.refuse_over(now, actions);
        }
    }

    /// Whether the backend said something that a waiter can be refused with.
    fn has_answer(&self) -> bool {
        self.last_error.is_some() || self.last_busy.is_some()
    }

    /// Refuses those whose patience is over. Tells whether there were any.
    pub(super) fn refuse_over(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let before = self.queue.len();
        while let Some(waiter) = self.queue.pop_over(now) {
            let refusal = self.refusal(now);
            actions.push(Action::Refuse {
                waiter: waiter.id,
                refusal,
            });
        }
        self.queue.len() < before
    }

    fn refusal(&self, now: Instant) -> Refusal {
        if let Phase::Holding(hold) = &self.phase {
            let holder = self.local_holder(now, hold);
            let retry_in = holder.as_ref().and_then(|holder| holder.expires_in);
            return Refusal::Held { holder, retry_in };
        }
        if let Some(error) = &self.last_error {
            return Refusal::Backend(Arc::clone(error));
        }
        let busy = self.last_busy.clone().unwrap_or_default();
        Refusal::Held {
            holder: busy.holder,
            retry_in: busy.retry_in,
        }
    }

    fn local_holder(&self, now: Instant, hold: &Hold) -> Option<Holder> {
        let lease = self.leases.iter().next()?;
        Some(Holder {
            owner: lease.owner.clone(),
            mode: lease.mode,
            token: Some(hold.token),
            held_for: Some(now.saturating_since(lease.granted)),
            expires_in: Some(lease.deadline(now, hold.deadline).left(now)),
        })
    }

    pub(super) fn confirm_all(
        &mut self,
        result: &Result<(), Arc<BackendError>>,
        actions: &mut Vec<Action>,
    ) {
        for lease in self.confirms.drain(..) {
            actions.push(Action::Confirmed {
                lease,
                result: result.clone(),
            });
        }
    }

    /// The ttl is over, so nothing is left at the backend, whether it said so or not.
    pub(super) fn end_abandoning(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Free { retry_at: None });
        if let Phase::Abandoning { then, .. } = phase {
            self.phase = Self::go_on(now, then);
        }
        let error = self
            .last_error
            .clone()
            .unwrap_or_else(|| Arc::new(BackendError::timeout()));
        self.confirm_all(&Err(error), actions);
    }
}

/// Whether a lease can be renewed to `ttl` without asking the backend: two thirds of it are there.
fn is_covered(now: Instant, hold: &Hold, ttl: Ttl) -> bool {
    hold.attempt.ttl >= ttl && hold.deadline.left(now) >= Deadline::validity(ttl) / 3 * 2
}
