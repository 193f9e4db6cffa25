//! A policy as it is served now.

use std::{cell::RefCell, rc::Rc, time::Duration};

use pawl_lock::{Instant, PolicyName, backend::Class};

use super::{
    EngineError,
    service::{Opened, Service},
    settings::Settings,
};

/// When callers may ask again while a policy changes its backend.
const SWITCH_RETRY: Duration = Duration::from_secs(1);

/// A policy that the engine serves. Its terms change in place when its file does.
#[derive(Debug)]
pub struct Policy {
    name: PolicyName,
    state: RefCell<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The newest settings that were taken on.
    pub(super) settings: Rc<Settings>,
    pub(super) phase: Phase,
}

/// What a policy is doing. At most one [`Service`] is open for it in every phase.
#[derive(Debug)]
pub(super) enum Phase {
    Serving(Rc<Service>),
    /// It never could be served.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// The old backend's leases are waited for; then the next one is used.
    Switching {
        old: Rc<Service>,
        next: Box<Opened>,
        /// When what is left of the old leases is ended.
        until: Instant,
    },
    /// Its file is gone; its leases are waited for.
    Removed(Rc<Service>),
}

impl Phase {
    pub(super) fn service(&self) -> Option<&Rc<Service>> {
        match self {
            Self::Serving(service) | Self::Removed(service) => Some(service),
            Self::Switching { old, .. } => Some(old),
            Self::Refused { .. } => None,
        }
    }
}

impl Policy {
    pub(super) fn new(settings: Rc<Settings>, phase: Phase) -> Self {
        Self {
            name: settings.name.clone(),
            state: RefCell::new(State { settings, phase }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// Whether it asks for the pod's bearer token (`sidecar.auth: Token`).
    pub fn requires_token(&self) -> bool {
        self.state.borrow().settings.requires_token
    }

    /// The backend's name, such as `redis`.
    pub fn backend(&self) -> &'static str {
        let state = self.state.borrow();
        match state.phase.service() {
            Some(service) => service.backend.profile.name,
            None => match state.settings.backend.spec.chosen() {
                Some(chosen) => chosen.kind().as_str(),
                None => "none",
            },
        }
    }

    /// What the backend promises; nothing while the policy is refused.
    pub fn class(&self) -> Option<Class> {
        let state = self.state.borrow();
        let service = state.phase.service()?;
        Some(service.backend.profile.class)
    }

    /// The longest time that an acquire may queue (`acquire.maxWait`).
    pub fn max_wait(&self) -> Duration {
        self.state.borrow().settings.max_wait
    }

    pub(super) fn state(&self) -> &RefCell<State> {
        &self.state
    }

    pub(super) fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.state.borrow().settings)
    }

    pub(super) fn service(&self) -> Option<Rc<Service>> {
        self.state.borrow().phase.service().map(Rc::clone)
    }

    /// When what is left on the old backend is ended, if it is changing.
    pub(super) fn switches_at(&self) -> Option<Instant> {
        match &self.state.borrow().phase {
            Phase::Switching { until, .. } => Some(*until),
            Phase::Serving(_) | Phase::Refused { .. } | Phase::Removed(_) => None,
        }
    }

    /// Whether its name is found by callers.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.state.borrow().phase, Phase::Removed(_))
    }

    /// The service that new leases are given by.
    pub(super) fn serving(&self) -> Result<Rc<Service>, EngineError> {
        match &self.state.borrow().phase {
            Phase::Serving(service) => Ok(Rc::clone(service)),
            Phase::Refused { reason, message } => Err(EngineError::PolicyRefused {
                policy: self.name.clone(),
                reason,
                message: message.clone(),
            }),
            Phase::Switching { .. } => Err(self.draining()),
            Phase::Removed(_) => Err(EngineError::UnknownPolicy {
                name: self.name.to_string(),
                known: Vec::new(),
            }),
        }
    }

    pub(super) fn draining(&self) -> EngineError {
        EngineError::PolicyDraining {
            policy: self.name.clone(),
            retry_after: SWITCH_RETRY,
        }
    }
}
