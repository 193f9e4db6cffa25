//! Acquires: from the request to the grant, the refusal or the caller's leaving.

use std::{rc::Rc, task::Waker, time::Duration};

use pawl_lock::{
    Instant, Key, LeaseRef, LossReason, Owner, Ttl,
    lease::{Grant, Mode, Renew},
    slot::{Acquire, Event, Refusal, WaiterId},
};

use super::{
    Ask, EngineError, Granted, Keys, Limit,
    arena::Id,
    policy::Policy,
    registry::{Lease, Part, Parts},
    service::Service,
    state::{Due, Holding, State},
};

/// When callers may ask again at a limit.
const LIMIT_RETRY: Duration = Duration::from_secs(1);

/// A caller that waits: a small record, not a task.
#[derive(Debug)]
pub(super) struct Acquisition {
    service: Rc<Service>,
    owner: Owner,
    mode: Mode,
    renew: Renew,
    attached: bool,
    ttl: Ttl,
    started: Instant,
    wait_until: Instant,
    max_hold: Duration,
    /// Where it waits now, and as whom.
    at: Id,
    waiter: WaiterId,
    /// Whether the slot has it, in its queue or in a call.
    is_queued: bool,
    /// Of several keys those before and after the one that is waited for.
    several: Option<Box<Several>>,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Waiting(Option<Waker>),
    Done(Box<Outcome>),
}

#[derive(Debug, Default)]
struct Several {
    /// Still to be taken, the next one last.
    rest: Vec<Key>,
    taken: Vec<Part>,
}

/// What the caller is answered.
pub(super) type Outcome = Result<Granted, EngineError>;

impl State {
    /// Takes up a request. Afterwards [`State::take_outcome`] has the answer, if it is known already.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        service: Rc<Service>,
        keys: Keys,
        ask: Ask,
    ) -> Result<WaiterId, EngineError> {
        let settings = service.settings();
        let checked = ask.check(&settings, service.backend.profile.min_ttl)?;
        let (key, rest) = keys.in_reverse()?;
        if let Some(key) = std::iter::once(&key)
            .chain(&rest)
            .find(|key| !settings.allows(key))
        {
            return Err(not_allowed(&settings, key));
        }
        self.check_limits(&service)?;
        let waiter = self.next_waiter();
        let at = self.place(&service, key)?;
        let several = (!rest.is_empty()).then(|| {
            Box::new(Several {
                taken: Vec::with_capacity(rest.len() + 1),
                rest,
            })
        });
        self.acquisitions.insert(
            waiter,
            Acquisition {
                service,
                owner: ask.owner.unwrap_or_else(|| self.fixed.identity.clone()),
                mode: ask.mode,
                renew: checked.renew,
                attached: ask.attached,
                ttl: checked.ttl,
                started: now,
                wait_until: now.saturating_add(checked.wait),
                max_hold: checked.max_hold,
                at,
                waiter,
                is_queued: false,
                several,
                progress: Progress::Waiting(None),
            },
        );
        self.ask_slot(waiter);
        self.settle(now);
        Ok(waiter)
    }

    fn check_limits(&self, service: &Service) -> Result<(), EngineError> {
        let max_waiters = service.settings.borrow().max_waiters as usize;
        for (limit, used, most) in [
            (Limit::MaxWaiters, service.waiters.get(), max_waiters),
            (
                Limit::Waiters,
                self.acquisitions.len(),
                self.fixed.limits.waiters,
            ),
            (Limit::Leases, self.leases.len(), self.fixed.limits.leases),
        ] {
            if used >= most {
                return Err(at_limit(limit, most));
            }
        }
        Ok(())
    }

    /// The slot of a key, made if need be, within the limits.
    fn place(&mut self, service: &Rc<Service>, key: Key) -> Result<Id, EngineError> {
        let known = service.slots.borrow().get(&key).copied();
        let is_active = known
            .and_then(|id| self.slots.get(id))
            .is_some_and(|entry| entry.leases + entry.waiters > 0);
        let max_held = service.settings.borrow().max_held as usize;
        if !is_active && service.active.get() >= max_held {
            return Err(at_limit(Limit::MaxHeld, max_held));
        }
        if let Some(id) = known {
            return Ok(id);
        }
        if service.slots.borrow().len() >= max_held {
            self.drop_spare(service);
        }
        let most = self.fixed.limits.keys;
        if self.slots.len() >= most {
            return Err(at_limit(Limit::Keys, most));
        }
        Ok(self.add_slot(service, key))
    }

    /// Gives the acquisition to the slot that it is at.
    fn ask_slot(&mut self, id: WaiterId) {
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        acquisition.is_queued = true;
        let slot = acquisition.at;
        let acquire = Acquire {
            waiter: acquisition.waiter,
            mode: acquisition.mode,
            ttl: acquisition.ttl,
            wait_until: acquisition.wait_until,
            renew: acquisition.renew,
            max_hold: acquisition.max_hold,
            // Keys that are taken before others must not fall to the idle limit while those are waited for.
            is_attached: acquisition.attached || acquisition.several.is_some(),
            owner: acquisition.owner.clone(),
        };
        self.enter(slot);
        self.push(slot, Event::Acquire(acquire));
    }

    pub(super) fn granted(&mut self, now: Instant, slot: Id, waiter: WaiterId, grant: &Grant) {
        let id = self.aliases.remove(&waiter).unwrap_or(waiter);
        let (lease, token) = (grant.lease, grant.token);
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            // Law 5: the caller left while the grant was on its way.
            self.push(
                slot,
                Event::Release {
                    lease,
                    confirm: false,
                },
            );
            return;
        };
        acquisition.is_queued = false;
        let Some(key) = self.slots.get(slot).map(|entry| entry.key.clone()) else {
            return;
        };
        let part = Part {
            slot,
            lease,
            key,
            token,
        };
        let Some(several) = &mut acquisition.several else {
            // Counted in before it is counted out as a waiter: the slot is in use all the time.
            self.complete(now, id, Parts::One(part));
            self.leave(slot);
            return;
        };
        several.taken.push(part);
        let next = several.rest.pop();
        let is_first = several.taken.len() == 1;
        self.hold(slot, lease, Holding::Taken(id));
        self.leave(slot);
        match next {
            Some(key) => {
                if is_first {
                    self.keep_taken_later(now, id);
                }
                self.ask_next(id, key);
            }
            None => self.complete_several(now, id),
        }
    }

    /// Goes on to the next of several keys.
    fn ask_next(&mut self, id: WaiterId, key: Key) {
        let Some(acquisition) = self.acquisitions.get(&id) else {
            return;
        };
        let service = Rc::clone(&acquisition.service);
        match self.place(&service, key) {
            Ok(slot) => {
                let waiter = self.next_waiter();
                if let Some(acquisition) = self.acquisitions.get_mut(&id) {
                    acquisition.at = slot;
                    acquisition.waiter = waiter;
                }
                self.aliases.insert(waiter, id);
                self.ask_slot(id);
            }
            Err(error) => self.fail(id, error),
        }
    }

    fn complete_several(&mut self, now: Instant, id: WaiterId) {
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        let Some(several) = acquisition.several.take() else {
            return;
        };
        if !acquisition.attached {
            for part in &several.taken {
                let lease = part.lease;
                self.push(
                    part.slot,
                    Event::Attach {
                        lease,
                        is_attached: false,
                    },
                );
            }
        }
        self.complete(now, id, Parts::Several(several.taken.into()));
    }

    /// All keys are there: makes the lease and answers.
    fn complete(&mut self, now: Instant, id: WaiterId, parts: Parts) {
        let Some(acquisition) = self.acquisitions.get(&id) else {
            return;
        };
        let lease = Lease {
            service: Rc::clone(&acquisition.service),
            owner: acquisition.owner.clone(),
            mode: acquisition.mode,
            renew: acquisition.renew,
            ttl: acquisition.ttl,
            granted: now,
            granted_at: self.fixed.clock.wall(),
            parts,
            // The acquiring stream is one; streams of events that open and close count beside it.
            attached: u32::from(acquisition.attached),
            renewals: 0,
            changes: None,
        };
        let waited = now.saturating_since(acquisition.started);
        let outcome = self.add_lease(now, lease, waited);
        self.finish(id, outcome);
    }

    pub(super) fn refused(&mut self, slot: Id, waiter: WaiterId, refusal: Refusal) {
        let id = self.aliases.remove(&waiter).unwrap_or(waiter);
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        acquisition.is_queued = false;
        let service = Rc::clone(&acquisition.service);
        let error = match refusal {
            Refusal::Held { holder, retry_in } => {
                let Some(key) = self.slots.get(slot).map(|entry| entry.key.clone()) else {
                    return;
                };
                EngineError::Held {
                    key,
                    holder,
                    retry_after: retry_in,
                }
            }
            Refusal::Backend(error) => EngineError::Backend {
                retry_after: service.retry_after(&error),
                error,
            },
            Refusal::Draining(_) => self.draining(&service),
        };
        self.leave(slot);
        self.give_back_taken(id);
        self.finish(id, Err(error));
    }

    /// Ends an acquisition that waits, with an error.
    pub(super) fn fail(&mut self, id: WaiterId, error: EngineError) {
        self.stop_waiting(id);
        self.give_back_taken(id);
        self.finish(id, Err(error));
    }

    pub(super) fn taken_was_lost(
        &mut self,
        id: WaiterId,
        (slot, lease): (Id, LeaseRef),
        reason: LossReason,
    ) {
        self.unhold(slot, lease);
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        let retry_after = LIMIT_RETRY;
        let taken = acquisition
            .several
            .as_mut()
            .map(|several| &mut several.taken);
        let lost = taken.and_then(|taken| {
            let index = taken.iter().position(|part| part.is(slot, lease))?;
            Some(taken.swap_remove(index))
        });
        if let Some(Part { key, .. }) = lost {
            self.fail(
                id,
                EngineError::LostWhileAcquiring {
                    key,
                    reason,
                    retry_after,
                },
            );
        }
    }

    /// Takes the acquisition out of the queue that it stands in, if it stands in one.
    fn stop_waiting(&mut self, id: WaiterId) {
        if let Some(acquisition) = self.acquisitions.get_mut(&id)
            && std::mem::take(&mut acquisition.is_queued)
        {
            let (slot, waiter) = (acquisition.at, acquisition.waiter);
            self.aliases.remove(&waiter);
            self.push(slot, Event::Cancel(waiter));
            self.leave(slot);
        }
    }

    fn give_back_taken(&mut self, id: WaiterId) {
        let several = self
            .acquisitions
            .get_mut(&id)
            .and_then(|acquisition| acquisition.several.take());
        for part in several.map(|several| several.taken).unwrap_or_default() {
            self.push(
                part.slot,
                Event::Release {
                    lease: part.lease,
                    confirm: false,
                },
            );
            self.unhold(part.slot, part.lease);
        }
    }

    fn finish(&mut self, id: WaiterId, outcome: Outcome) {
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        match &outcome {
            Ok(granted) => acquisition.service.metrics.granted(granted.waited),
            Err(error) => acquisition.service.metrics.refused(error.category()),
        }
        let done = Progress::Done(Box::new(outcome));
        if let Progress::Waiting(Some(waker)) = std::mem::replace(&mut acquisition.progress, done) {
            waker.wake();
        }
    }

    /// The caller left.
    pub(super) fn cancel(&mut self, now: Instant, id: WaiterId) {
        match self
            .acquisitions
            .get(&id)
            .map(|acquisition| &acquisition.progress)
        {
            Some(Progress::Waiting(_)) => {
                self.stop_waiting(id);
                self.give_back_taken(id);
                if let Some(acquisition) = self.acquisitions.remove(&id) {
                    acquisition.service.metrics.refused("cancelled");
                }
            }
            Some(Progress::Done(_)) => {
                if let Some(Ok(granted)) = self.take_outcome(id) {
                    self.give_up(now, &granted.lease_id);
                }
            }
            None => {}
        }
        self.settle(now);
    }

    /// The answer, once: the acquisition is over then.
    pub(super) fn take_outcome(&mut self, id: WaiterId) -> Option<Outcome> {
        match self.acquisitions.get(&id)?.progress {
            Progress::Waiting(_) => None,
            Progress::Done(_) => match self.acquisitions.remove(&id)?.progress {
                Progress::Done(outcome) => Some(*outcome),
                Progress::Waiting(_) => None,
            },
        }
    }

    /// Whom to wake when the answer is there.
    pub(super) fn set_waker(&mut self, id: WaiterId, waker: &Waker) {
        if let Some(acquisition) = self.acquisitions.get_mut(&id)
            && let Progress::Waiting(known) = &mut acquisition.progress
        {
            match known {
                Some(known) => known.clone_from(waker),
                None => *known = Some(waker.clone()),
            }
        }
    }

    /// How many are ahead.
    pub(super) fn ahead(&self, id: WaiterId) -> Option<u32> {
        let acquisition = self.acquisitions.get(&id)?;
        let entry = self.slots.get(acquisition.at)?;
        entry.slot.ahead(acquisition.waiter)
    }

    /// Ends every acquisition of a service, or all, with an error.
    pub(super) fn fail_all(&mut self, of: Option<&Rc<Service>>, error: &EngineError) {
        let waits = |acquisition: &Acquisition| {
            matches!(acquisition.progress, Progress::Waiting(_))
                && of.is_none_or(|service| Rc::ptr_eq(service, &acquisition.service))
        };
        let waiting = self.acquisitions.iter();
        let mut waiting: Vec<WaiterId> = waiting
            .filter_map(|(id, acquisition)| waits(acquisition).then_some(*id))
            .collect();
        waiting.sort_unstable();
        for id in waiting {
            self.fail(id, error.clone());
        }
    }

    /// Renews the taken keys of an acquisition whose owner is to renew them later: until all keys are there, it is
    /// this engine that must keep them.
    pub(super) fn keep_taken(&mut self, now: Instant, id: WaiterId) {
        let Some(acquisition) = self.acquisitions.get(&id) else {
            return;
        };
        let Some(several) = &acquisition.several else {
            return;
        };
        let taken: Vec<(Id, LeaseRef)> = several
            .taken
            .iter()
            .map(|part| (part.slot, part.lease))
            .collect();
        for (slot, lease) in taken {
            // Nobody waits for the answer: a loss is told by itself.
            let renew = Event::Renew {
                lease,
                id: self.next_renewal(),
                ttl: None,
            };
            self.push(slot, renew);
        }
        self.keep_taken_later(now, id);
    }

    fn keep_taken_later(&mut self, now: Instant, id: WaiterId) {
        if let Some(acquisition) = self.acquisitions.get(&id)
            && acquisition.renew == Renew::Manual
        {
            let at = now.saturating_add(acquisition.ttl.as_duration() / 3);
            self.at(at, Due::Taken(id));
        }
    }

    /// What is said when the service gives nothing new.
    pub(super) fn draining(&self, service: &Service) -> EngineError {
        let settings = service.settings();
        match self.policies.get(&settings.name) {
            Some(policy) if !self.is_draining => policy.draining(),
            _ => EngineError::Draining,
        }
    }
}

impl Part {
    fn is(&self, slot: Id, lease: LeaseRef) -> bool {
        self.slot == slot && self.lease == lease
    }
}

fn at_limit(limit: Limit, most: usize) -> EngineError {
    EngineError::Limit {
        limit,
        most: most as u64,
        retry_after: LIMIT_RETRY,
    }
}

pub(super) fn not_allowed(settings: &super::settings::Settings, key: &Key) -> EngineError {
    EngineError::KeyNotAllowed {
        policy: settings.name.clone(),
        key: key.clone(),
        allowed: settings.allow.iter().map(ToString::to_string).collect(),
    }
}

/// The service that gives leases under a policy now.
pub(super) fn serving(state: &State, policy: &Policy) -> Result<Rc<Service>, EngineError> {
    if state.is_draining {
        return Err(EngineError::Draining);
    }
    policy.serving()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_a_small_record() {
        let bytes = size_of::<(WaiterId, Acquisition)>();
        assert!(bytes <= 128, "{bytes}");
    }
}
