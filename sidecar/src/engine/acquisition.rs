//! Acquires: from the request to the grant, the refusal or the caller's leaving.

use std::{rc::Rc, task::Waker, time::Duration};

use pawl_lock::{
    Instant, Key, Owner, Ttl,
    lease::{Grant, Mode, Renew},
    slot::{Acquire, Event, Refusal, WaiterId},
};

use super::{
    Ask, EngineError, Granted, Keys, Limit,
    arena::Id,
    policy::Policy,
    registry::{Lease, Part, Parts},
    service::Service,
    several::Several,
    state::{Holding, State},
};

/// When callers may ask again at a limit, or after a loss.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A caller that waits: a small record, not a task.
#[derive(Debug)]
pub(super) struct Acquisition {
    pub(super) service: Rc<Service>,
    owner: Owner,
    mode: Mode,
    pub(super) renew: Renew,
    pub(super) attached: bool,
    pub(super) ttl: Ttl,
    started: Instant,
    wait_until: Instant,
    max_hold: Duration,
    /// Where it waits now, and as whom.
    pub(super) at: Id,
    pub(super) waiter: WaiterId,
    /// Whether the slot has it, in its queue or in a call.
    is_queued: bool,
    /// Of several keys those before and after the one that is waited for.
    pub(super) several: Option<Box<Several>>,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Waiting(Option<Waker>),
    Done(Box<Outcome>),
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
    pub(super) fn place(&mut self, service: &Rc<Service>, key: Key) -> Result<Id, EngineError> {
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
    pub(super) fn ask_slot(&mut self, id: WaiterId) {
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

    /// All keys are there: makes the lease and answers.
    pub(super) fn complete(&mut self, now: Instant, id: WaiterId, parts: Parts) {
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

    /// Takes the acquisition out of the queue that it stands in, if it stands in one.
    pub(super) fn stop_waiting(&mut self, id: WaiterId) {
        if let Some(acquisition) = self.acquisitions.get_mut(&id)
            && std::mem::take(&mut acquisition.is_queued)
        {
            let (slot, waiter) = (acquisition.at, acquisition.waiter);
            self.aliases.remove(&waiter);
            self.push(slot, Event::Cancel(waiter));
            self.leave(slot);
        }
    }

    pub(super) fn finish(&mut self, id: WaiterId, outcome: Outcome) {
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

    /// What is said when the service gives nothing new.
    pub(super) fn draining(&self, service: &Service) -> EngineError {
        let settings = service.settings();
        match self.policies.get(&settings.name) {
            Some(policy) if !self.is_draining => policy.draining(),
            _ => EngineError::Draining,
        }
    }
}

fn at_limit(limit: Limit, most: usize) -> EngineError {
    EngineError::Limit {
        limit,
        most: most as u64,
        retry_after: RETRY,
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
