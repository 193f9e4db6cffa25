//! New policies, changed ones, removed ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use pawl_lock::{Instant, LossReason, PolicyName, slot::Event};

use super::{
    Engine, EngineError,
    mailbox::Mailbox,
    policy::{Phase, Policy, State as PolicyState},
    service::{Opened, Service},
    settings::{BackendConfig, OpenError, Opener, Settings},
    state::{Due, State},
};
use crate::metrics::Metrics;

/// How long the leases on an old backend are waited for before they are ended: long enough for work that is under way,
/// short enough for who changed the policy to see it happen.
pub const SWITCH_TIMEOUT: Duration = Duration::from_mins(1);

/// What became of a policy that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Its terms are served.
    Serving,
    /// Its backend changed: the leases on the old one are waited for, at most [`SWITCH_TIMEOUT`].
    Switching,
    /// Its backend cannot be opened, and there is no earlier one: every call is refused with this.
    Refused(OpenError),
    /// Its backend cannot be opened: the policy as it was before is served on.
    Kept(OpenError),
}

impl Engine {
    /// Makes `all` the policies that are served: new ones are opened, changed ones take effect for everything that is
    /// granted from now on, those that are not among them are drained. The answers are in the order of the names.
    pub fn apply(&self, all: Vec<Settings>) -> BTreeMap<PolicyName, Applied> {
        let now = self.clock().now();
        let names: BTreeSet<PolicyName> =
            all.iter().map(|settings| settings.name.clone()).collect();
        let mut state = self.state();
        let gone: Vec<Rc<Policy>> = state
            .policies
            .values()
            .filter(|policy| !names.contains(policy.name()))
            .cloned()
            .collect();
        for policy in gone {
            state.remove_policy(&policy);
            self.inner.metrics.forget_generation(policy.name().as_str());
        }
        let mut applied = BTreeMap::new();
        for settings in all {
            let name = settings.name.clone();
            let generation = settings.origin.generation.unwrap_or(0);
            let outcome = state.apply(now, &*self.inner.opener, &self.inner.metrics, settings);
            if matches!(outcome, Applied::Serving | Applied::Switching) {
                self.inner.metrics.set_generation(name.as_str(), generation);
            }
            applied.insert(name, outcome);
        }
        state.settle(now);
        state.close_emptied(&self.inner.metrics);
        self.news();
        self.report(&state);
        applied
    }
}

impl State {
    fn apply(
        &mut self,
        now: Instant,
        opener: &dyn Opener,
        metrics: &Metrics,
        settings: Settings,
    ) -> Applied {
        let settings = Rc::new(settings);
        let policy = self.policies.get(&settings.name).map(Rc::clone);
        match policy.as_ref().and_then(|policy| policy.service()) {
            None => {
                let (phase, applied) = match open(opener, &settings.backend) {
                    Ok(backend) => {
                        let service = self.open_service(backend, metrics, &settings);
                        (Phase::Serving(service), Applied::Serving)
                    }
                    Err(error) => (refused(&error), Applied::Refused(error)),
                };
                self.set_policy(settings, phase);
                applied
            }
            Some(service) if service.backend.config.serves(&settings.backend) => {
                self.new_terms(&service, &settings);
                service.is_retiring.set(false);
                self.set_policy(settings, Phase::Serving(service));
                Applied::Serving
            }
            Some(service) => self.switch(now, opener, &service, settings),
        }
    }

    /// Puts a policy into its new phase; handles that callers have of it stay good.
    fn set_policy(&mut self, settings: Rc<Settings>, phase: Phase) {
        if let Some(policy) = self.policies.get(&settings.name) {
            *policy.state().borrow_mut() = PolicyState { settings, phase };
        } else {
            let name = settings.name.clone();
            let policy = Rc::new(Policy::new(settings, phase));
            self.policies.insert(name, policy);
        }
    }

    /// The backend is another one now.
    fn switch(
        &mut self,
        now: Instant,
        opener: &dyn Opener,
        old: &Rc<Service>,
        settings: Rc<Settings>,
    ) -> Applied {
        let next = match open(opener, &settings.backend) {
            Ok(next) => next,
            Err(error) => return Applied::Kept(error),
        };
        let name = settings.name.clone();
        let earlier = self
            .policies
            .get(&name)
            .and_then(|policy| policy.switches_at());
        let until = earlier.unwrap_or_else(|| now.saturating_add(SWITCH_TIMEOUT));
        let phase = Phase::Switching {
            old: Rc::clone(old),
            next: Box::new(next),
            until,
        };
        self.set_policy(settings, phase);
        if earlier.is_none() {
            self.at(until, Due::Switch(name));
        }
        let error = self.draining(old);
        self.retire(old, &error);
        Applied::Switching
    }

    fn remove_policy(&mut self, policy: &Rc<Policy>) {
        let Some(service) = policy.service() else {
            self.policies.remove(policy.name());
            return;
        };
        policy.state().borrow_mut().phase = Phase::Removed(Rc::clone(&service));
        let error = EngineError::UnknownPolicy {
            name: policy.name().to_string(),
            known: self.known_policies(),
        };
        self.retire(&service, &error);
    }

    /// Nothing new from this service: waiters are answered, and holds without leases let go.
    fn retire(&mut self, service: &Rc<Service>, answer: &EngineError) {
        if service.is_retiring.replace(true) {
            return;
        }
        self.fail_all(Some(service), answer);
        self.drain_unused(Some(service), LossReason::PolicyRemoved);
        if service.slots.borrow().is_empty() {
            self.emptied.push(service.settings().name.clone());
        }
    }

    /// Drains the slots without leases, of a service or all.
    pub(super) fn drain_unused(&mut self, of: Option<&Rc<Service>>, reason: LossReason) {
        for id in self.slots.ids() {
            let is_unused = self.slots.get(id).is_some_and(|entry| {
                entry.leases == 0 && of.is_none_or(|of| Rc::ptr_eq(of, &entry.service))
            });
            if is_unused {
                self.push(id, Event::Drain(reason));
            }
        }
    }

    fn new_terms(&mut self, service: &Service, settings: &Rc<Settings>) {
        let old = service.settings.replace(Rc::clone(settings));
        if old.terms != settings.terms {
            let slots: Vec<_> = service.slots.borrow().values().copied().collect();
            for slot in slots {
                self.push(slot, Event::Terms(Arc::clone(&settings.terms)));
            }
        }
    }

    /// The time for the leases on an old backend is over.
    pub(super) fn end_switch(&mut self, now: Instant, name: &PolicyName) {
        let Some(policy) = self.policies.get(name).map(Rc::clone) else {
            return;
        };
        let Phase::Switching { old, until, .. } = &policy.state().borrow().phase else {
            return;
        };
        if now < *until {
            // The timer of an earlier change that was taken back.
            return;
        }
        let slots: Vec<_> = old.slots.borrow().values().copied().collect();
        for slot in slots {
            self.push(slot, Event::Drain(LossReason::PolicyRemoved));
        }
    }

    /// Closes the services that have lost their last slot, and goes on to what was to follow. Whether there were any.
    pub(super) fn close_emptied(&mut self, metrics: &Metrics) -> bool {
        let emptied = std::mem::take(&mut self.emptied);
        let is_news = !emptied.is_empty();
        for name in emptied {
            let Some(policy) = self.policies.get(&name).map(Rc::clone) else {
                continue;
            };
            let Some(service) = policy.service() else {
                continue;
            };
            if !service.is_retiring.get() || !service.slots.borrow().is_empty() {
                continue;
            }
            service.close();
            let next = match &policy.state().borrow().phase {
                Phase::Switching { next, until, .. } => Some((Opened::clone(next), *until)),
                Phase::Serving(_) | Phase::Refused { .. } | Phase::Removed(_) => None,
            };
            let Some((next, until)) = next else {
                self.policies.remove(&name);
                continue;
            };
            self.timers.remove(&(until, Due::Switch(name)));
            let settings = policy.settings();
            let service = self.open_service(next, metrics, &settings);
            policy.state().borrow_mut().phase = Phase::Serving(service);
        }
        is_news
    }

    fn open_service(
        &mut self,
        opened: Opened,
        metrics: &Metrics,
        settings: &Rc<Settings>,
    ) -> Rc<Service> {
        let metrics = metrics.policy(settings.name.as_str(), opened.profile.name);
        let mailbox = Mailbox::new(Arc::clone(&self.fixed.bell));
        let service = Rc::new(Service::new(opened, mailbox, metrics, Rc::clone(settings)));
        self.opened.push(Rc::clone(&service));
        self.fixed.bell.engine.wake();
        service
    }

    /// The names that callers find, sorted, at most [`super::MAX_LISTED`].
    pub(super) fn known_policies(&self) -> Vec<PolicyName> {
        self.policies
            .values()
            .filter(|policy| policy.is_known())
            .take(super::MAX_LISTED)
            .map(|policy| policy.name().clone())
            .collect()
    }
}

fn open(opener: &dyn Opener, config: &BackendConfig) -> Result<Opened, OpenError> {
    let backend = opener.open(config)?;
    let profile = backend.profile();
    Ok(Opened {
        backend,
        profile,
        config: config.clone(),
    })
}

fn refused(error: &OpenError) -> Phase {
    Phase::Refused {
        reason: error.reason,
        message: error.message.clone(),
    }
}
