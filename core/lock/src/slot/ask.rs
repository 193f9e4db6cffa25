//! Asking the backend, and what its answers change.

use std::sync::Arc;

use super::{
    Slot,
    action::{Action, Call, LeaseChange, RenewRefusal},
    event::{Answer, CallId},
    phase::{Attempt, Hold, Phase, Remote},
};
use crate::{
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendError, Busy, Granted, Outcome,
        Place, Released, Renewed, Retry,
    },
    lease::{LossReason, Order},
    time::{Instant, Ttl},
};

impl Slot {
    /// Begins a call at `now`: what it grants is counted from here.
    pub(super) fn start(&mut self, now: Instant, call: Call, ttl: Ttl, actions: &mut Vec<Action>) {
        debug_assert!(self.call.is_none(), "one call at a time");
        self.calls_made += 1;
        let id = CallId(self.calls_made);
        self.call = Some((id, now));
        let timeout = self.terms.call_timeout.min(ttl.as_duration() / 2);
        actions.push(Action::Call { id, call, timeout });
    }

    /// A fresh attempt for the first waiter.
    pub(super) fn next_attempt(
        &mut self,
        now: Instant,
        is_yielding: bool,
    ) -> Option<(Attempt, AcquireRequest)> {
        if self.draining.is_some() {
            return None;
        }
        let front = self.queue.front()?;
        // Who only tries takes no place, but those behind take theirs with this call, or later ones elsewhere pass them.
        let patient = self
            .queue
            .first_patient(now)
            .filter(|patient| patient.mode == front.mode);
        let attempt = Attempt {
            id: self.ids.next_id(),
            mode: front.mode,
            ttl: front.ttl,
            owner: front.owner.clone(),
            arrived: patient.unwrap_or(front).arrived,
            is_yielding,
            is_placed: patient.is_some(),
            called: now,
            failures: 0,
            is_loose: false,
        };
        let request = self.request(now, &attempt);
        Some((attempt, request))
    }

    fn request(&self, now: Instant, attempt: &Attempt) -> AcquireRequest {
        let place = Place {
            age: now.saturating_since(attempt.arrived),
            keep: self.terms.poll * 3,
        };
        AcquireRequest {
            key: self.key.clone(),
            hold: attempt.id,
            mode: attempt.mode,
            ttl: attempt.ttl,
            order: if attempt.is_yielding {
                Order::Fifo
            } else {
                self.terms.order
            },
            place: attempt.is_placed.then_some(place),
            lock_delay: self.terms.lock_delay,
            owner: attempt.owner.clone(),
        }
    }

    pub(super) fn ask_first(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some((attempt, request)) = self.next_attempt(now, false) {
            let ttl = attempt.ttl;
            self.phase = Phase::Asking(attempt);
            self.remote = None;
            self.turn = false;
            self.start(now, Call::Acquire(request), ttl, actions);
        }
    }

    /// Asks again under the same id, for the waiter that is first now.
    pub(super) fn ask_again(
        &mut self,
        now: Instant,
        mut attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        if let Some(front) = self.queue.front() {
            attempt.arrived = front.arrived;
            attempt.owner = front.owner.clone();
            attempt.ttl = attempt.ttl.max(front.ttl);
            attempt.is_placed = true;
        }
        attempt.called = now;
        let (request, ttl) = (self.request(now, &attempt), attempt.ttl);
        self.phase = Phase::Asking(attempt);
        self.turn = false;
        self.start(now, Call::Acquire(request), ttl, actions);
    }

    pub(super) fn ask_abandon(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Abandoning { attempt, .. } = &self.phase else {
            return;
        };
        let request = AbandonRequest {
            key: self.key.clone(),
            hold: attempt.id,
            mode: attempt.mode,
            ttl: attempt.ttl,
        };
        let ttl = attempt.ttl;
        self.start(now, Call::Abandon(request), ttl, actions);
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        call: CallId,
        answer: Answer,
        actions: &mut Vec<Action>,
    ) {
        let Some((_, called)) = self.call.take_if(|(id, _)| *id == call) else {
            return;
        };
        let phase = std::mem::replace(&mut self.phase, Phase::Free { retry_at: None });
        // An answer to what the slot no longer waits for (its hold ended meanwhile) changes nothing.
        self.phase = match (phase, answer) {
            (Phase::Asking(attempt), Answer::Acquire(result)) => {
                self.acquired(now, attempt, result)
            }
            (Phase::Holding(hold), Answer::Renew(result)) => {
                self.renewed(now, hold, called, result, actions)
            }
            (Phase::Releasing { hold, next }, Answer::Release(result)) => {
                self.released(now, hold, next, result, actions)
            }
            (
                Phase::Abandoning {
                    attempt,
                    until,
                    ask_at: _,
                    failures,
                    then,
                },
                Answer::Abandon(result),
            ) => match result {
                Ok(Abandoned::Settled) => {
                    self.last_error = None;
                    self.confirm_all(&Ok(()), actions);
                    Self::go_on(now, then)
                }
                Ok(Abandoned::Unsettled) => self.abandon_again(now, attempt, until, failures, then),
                Err(error) => {
                    self.last_error = Some(Arc::new(error));
                    self.abandon_again(now, attempt, until, failures, then)
                }
            },
            (phase, _) => phase,
        };
    }

    fn abandon_again(
        &mut self,
        now: Instant,
        attempt: Attempt,
        until: Instant,
        failures: u32,
        then: Option<Attempt>,
    ) -> Phase {
        let failures = failures.saturating_add(1);
        let ask_at = now.saturating_add(self.jitter.delay(ABANDON, failures));
        Phase::Abandoning {
            attempt,
            until,
            ask_at,
            failures,
            then,
        }
    }

    /// What comes after an abandonment.
    pub(super) fn go_on(now: Instant, then: Option<Attempt>) -> Phase {
        match then {
            Some(attempt) => Phase::Waiting {
                attempt,
                ask_at: now,
                ahead: None,
            },
            None => Phase::Free { retry_at: None },
        }
    }

    pub(super) fn acquired(
        &mut self,
        now: Instant,
        attempt: Attempt,
        result: Result<Acquired, BackendError>,
    ) -> Phase {
        match result {
            Ok(Acquired::Granted(granted)) => {
                self.last_error = None;
                self.last_busy = None;
                let hold = Hold::new(now, attempt, granted);
                let is_session_lost = self
                    .lost_session
                    .is_some_and(|lost| hold.session != 0 && hold.session <= lost);
                if hold.deadline.is_over(now) || is_session_lost {
                    // The answer took so long, or its session ended so soon, that nobody may believe it.
                    return hold.attempt.abandoned(now, None);
                }
                self.note_wanted(now, hold.attempt.called, granted);
                Phase::Holding(hold)
            }
            Ok(Acquired::Busy(busy)) => {
                self.last_error = None;
                self.busy(now, attempt, busy)
            }
            Err(error) => self.acquire_failed(now, attempt, error),
        }
    }

    fn note_wanted(&mut self, now: Instant, called: Instant, granted: Granted) {
        match granted.wanted {
            Some(wanted) => self.remote = Some(Remote::new(now, wanted.mode, wanted.age)),
            None => self.remote = self.remote.filter(|remote| remote.noted >= called),
        }
    }

    fn busy(&mut self, now: Instant, mut attempt: Attempt, busy: Busy) -> Phase {
        let ahead = busy.ahead;
        let failures = attempt.failures.saturating_add(1);
        let wait = match self.terms.order {
            Order::Fifo => self.jitter.spread(self.terms.poll),
            // Without a queue the next to ask gets it: spread out, and further with each failure.
            Order::Any => self
                .jitter
                .delay(self.terms.retry, failures)
                .min(self.terms.poll),
        };
        let ask_at = now.saturating_add(
            busy.retry_in
                .map_or(wait, |hint| wait.min(hint.max(self.terms.retry.initial))),
        );
        self.last_busy = Some(busy);
        if !attempt.is_placed {
            // It had no place, so nothing of it is left.
            return Phase::Free { retry_at: None };
        }
        attempt.failures = failures;
        let ask_at = if std::mem::take(&mut self.turn) {
            now
        } else {
            ask_at
        };
        Phase::Waiting {
            attempt,
            ask_at: ask_at.max(now),
            ahead,
        }
    }

    fn acquire_failed(&mut self, now: Instant, mut attempt: Attempt, error: BackendError) -> Phase {
        let (outcome, retry) = (error.outcome(), error.retry());
        self.last_error = Some(Arc::new(error));
        self.is_hopeless = retry == Retry::Rarely;
        attempt.failures = attempt.failures.saturating_add(1);
        attempt.is_loose |= outcome == Outcome::Unknown;
        self.failures = self.failures.saturating_add(1);
        let retry_at = now.saturating_add(self.jitter.delay(self.terms.retry, self.failures));
        let had_effect = outcome == Outcome::Unknown || attempt.failures > 1;
        if had_effect {
            // Asked again under the same id while somebody waits, so that the outcome is read back.
            Phase::Waiting {
                attempt,
                ask_at: retry_at,
                ahead: None,
            }
        } else {
            Phase::Free {
                retry_at: Some(retry_at),
            }
        }
    }

    fn renewed(
        &mut self,
        now: Instant,
        mut hold: Hold,
        called: Instant,
        result: Result<Renewed, BackendError>,
        actions: &mut Vec<Action>,
    ) -> Phase {
        match result {
            Ok(Renewed::Extended { wanted }) => {
                self.last_error = None;
                hold.extended(called);
                match wanted {
                    Some(wanted) => self.remote = Some(Remote::new(now, wanted.mode, wanted.age)),
                    None => self.remote = self.remote.filter(|remote| remote.noted >= called),
                }
                for lease in self.leases.iter() {
                    let deadline = lease.deadline(now, hold.deadline);
                    actions.push(Action::Lease {
                        lease: lease.id,
                        change: LeaseChange::Renewed { deadline },
                    });
                }
                self.answer_renewals(now, &hold, called, actions);
                Phase::Holding(hold)
            }
            Ok(Renewed::NotOwner) => {
                self.confirm_all(&Ok(()), actions);
                self.lose_all(LossReason::NotOwner, actions);
                Phase::Free { retry_at: None }
            }
            Err(error) => {
                let error = Arc::new(error);
                hold.renew_failures = hold.renew_failures.saturating_add(1);
                let ttl = hold.attempt.ttl.as_duration();
                hold.renew_at = now.saturating_add(self.renew_backoff(ttl, hold.renew_failures));
                if !std::mem::replace(&mut hold.is_uncertain, true) {
                    for lease in self.leases.iter() {
                        actions.push(Action::Lease {
                            lease: lease.id,
                            change: LeaseChange::Uncertain,
                        });
                    }
                }
                for (id, ..) in self.renewals.drain(..) {
                    let result = Err(RenewRefusal::Backend(Arc::clone(&error)));
                    actions.push(Action::RenewAnswer { id, result });
                }
                self.last_error = Some(error);
                Phase::Holding(hold)
            }
        }
    }

    fn released(
        &mut self,
        now: Instant,
        hold: Attempt,
        next: Option<Attempt>,
        result: Result<Released, BackendError>,
        actions: &mut Vec<Action>,
    ) -> Phase {
        match result {
            Ok(Released {
                was_owner: _,
                next: answer,
            }) => {
                self.last_error = None;
                self.confirm_all(&Ok(()), actions);
                match (next, answer) {
                    (Some(attempt), Some(acquired)) => self.acquired(now, attempt, Ok(acquired)),
                    (next, _) => Self::go_on(now, next),
                }
            }
            Err(error) => {
                let next = next.filter(|_| error.outcome() == Outcome::Unknown);
                let next = next.map(|next| Attempt {
                    is_loose: true,
                    ..next
                });
                self.is_hopeless = error.retry() == Retry::Rarely;
                self.last_error = Some(Arc::new(error));
                // Whatever of the hold is left ends with its ttl at the latest.
                hold.abandoned(now, next)
            }
        }
    }
}

/// How often a compensation is repeated: often enough that the next caller waits less than a second after the backend is back.
const ABANDON: super::event::Backoff = super::event::Backoff {
    initial: std::time::Duration::from_millis(50),
    max: std::time::Duration::from_millis(400),
    factor: 2,
    is_jittered: true,
};
