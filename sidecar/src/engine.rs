//! The engine: every lock of this sidecar, behind plain method calls.
//!
//! One event loop, one thread: the state is behind an [`Rc`] and never borrowed across an await. Per (policy, key)
//! there is one [`pawl_lock::slot::Slot`]; the engine gives it events, does what it answers, and keeps what a slot
//! must not know: secret handles, leases over several keys, limits, streams, metrics.
//!
//! # Guarantees
//! * A [`Pending`] that is dropped gives up its place at once, and a grant that raced is released (law 5).
//! * What is said of a lease is computed against its deadline when it is said (law 3).
//! * Everything has a bound: see [`Limits`] (law 6).
//! * [`Engine::run`] owns every backend call and task; it ends only when the engine has drained (law 9).
//!
//! # Not here
//! HTTP, JSON, files, signals.

use std::{
    cell::{Cell, RefCell, RefMut},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use pawl_kit::{admin::Readiness, clock::Clock};
use pawl_lock::{FencingToken, Key, Owner, PolicyName, backend::FenceVerdict, slot::RenewRefusal};

pub use apply::{Applied, SWITCH_TIMEOUT};
pub use ask::{Ask, Keys, MAX_KEYS};
pub use error::{AskProblem, EngineError, Field, LeaseError, Limit};
pub use lease::{Granted, KeyGrant, LeaseEvent, LeaseEvents, LeaseInfo};
pub use lease_id::LeaseId;
pub use pending::{AttachGuard, Pending};
pub use policy::Policy;
pub use report::{FileFault, StatusBoard};
pub use runner::EngineFailure;
pub use settings::{BackendConfig, OpenError, Opener, Origin, Settings};
pub use view::{HolderInfo, KeyInfo, KeyRow, LeaseRow, PolicyView};

use crate::metrics::Metrics;
use mailbox::Bell;
use report::Reporter;
use state::{Fixed, State};

mod acquisition;
mod apply;
mod arena;
mod ask;
mod call;
mod ended;
mod error;
mod health;
mod keeper;
mod lease;
mod lease_id;
mod mailbox;
mod pending;
mod policy;
mod registry;
mod report;
mod runner;
mod service;
mod settings;
mod several;
mod show;
mod slots;
mod state;
mod view;

/// The most entries of any list that the engine gives out.
pub const MAX_LISTED: usize = 1000;

/// Every lock of this sidecar; cheap to clone. See the [module](self).
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    opener: Box<dyn Opener>,
    metrics: Metrics,
    bell: Arc<Bell>,
    state: RefCell<State>,
    reporter: RefCell<Reporter>,
    /// Whether what the reporter shows is out of date.
    is_news: Cell<bool>,
}

/// What an engine is made of.
#[derive(Debug)]
pub struct Config {
    /// The clock that everything hangs on.
    pub clock: Clock,
    /// The sidecar's name: the owner of leases whose caller names none.
    pub identity: Owner,
    /// The sidecar's own bounds.
    pub limits: Limits,
    /// Makes backends.
    pub opener: Box<dyn Opener>,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Where policies that are in trouble are told, and the drain.
    pub readiness: Readiness,
}

/// The sidecar's own bounds, over all policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Keys that are held, waited for or cleaned up after.
    pub keys: usize,
    /// Leases that are alive.
    pub leases: usize,
    /// Callers that wait.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys: 100_000,
            leases: 100_000,
            waiters: 20_000,
        }
    }
}

/// Which policy a caller means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicySelector<'a> {
    /// `-`: the only one.
    Only,
    /// By its name. A text that is no policy name is an unknown policy.
    Named(&'a str),
}

impl<'a> From<&'a str> for PolicySelector<'a> {
    fn from(text: &'a str) -> Self {
        match text {
            "-" => Self::Only,
            name => Self::Named(name),
        }
    }
}

impl Engine {
    /// An engine without policies. It does nothing until [`Engine::run`] is polled.
    pub fn new(config: Config) -> Self {
        let Config {
            clock,
            identity,
            limits,
            opener,
            metrics,
            readiness,
        } = config;
        let reporter = Reporter::new(&identity, readiness);
        let bell = Arc::<Bell>::default();
        let state = State::new(Fixed {
            clock: clock.clone(),
            identity,
            process: rand::random(),
            limits,
            bell: Arc::clone(&bell),
        });
        Self {
            inner: Rc::new(Inner {
                clock,
                opener,
                metrics,
                bell,
                state: RefCell::new(state),
                reporter: RefCell::new(reporter),
                is_news: Cell::new(true),
            }),
        }
    }

    /// The state. Never kept across an await, and nothing that is called while it is borrowed calls back.
    fn state(&self) -> RefMut<'_, State> {
        self.inner.state.borrow_mut()
    }

    /// What `/status` shows.
    pub fn status(&self) -> StatusBoard {
        self.inner.reporter.borrow().board()
    }

    /// Takes note of the policy files that are not what is served; replaces those that were told before.
    pub fn tell_faults(&self, faults: Vec<FileFault>) {
        self.inner.reporter.borrow_mut().set_faults(faults);
        self.inner.is_news.set(true);
        self.report(&self.state());
    }

    /// Something changed that is reported.
    fn news(&self) {
        self.inner.is_news.set(true);
        self.inner.bell.engine.wake();
    }

    fn report(&self, state: &State) {
        if self.inner.is_news.replace(false) {
            let policies = state.policies.values();
            let mut reporter = self.inner.reporter.borrow_mut();
            reporter.report(policies, state.is_draining);
        }
    }

    /// The clock that all instants and deadlines of this engine belong to.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Whether any policy asks for the pod's bearer token (`sidecar.auth: Token`). See [`Policy::requires_token`].
    pub fn requires_token(&self) -> bool {
        let state = self.state();
        state
            .policies
            .values()
            .any(|policy| policy.requires_token())
    }

    /// Whether the policy of this lease asks for the pod's bearer token. Not a sign of its owner's life. An id that leads
    /// to no lease asks for nothing.
    pub fn lease_requires_token(&self, id: &LeaseId) -> bool {
        let state = self.state();
        let lease = state.leases.get(id);
        lease.is_some_and(|lease| lease.service.settings().requires_token)
    }

    /// Whether the sidecar is shutting down: [`Engine::begin`] answers [`EngineError::Draining`].
    pub fn is_draining(&self) -> bool {
        self.state().is_draining
    }

    /// Finds a policy. One that is refused is found too; what is asked of it then fails with
    /// [`EngineError::PolicyRefused`].
    ///
    /// # Errors
    /// [`EngineError::UnknownPolicy`], [`EngineError::AmbiguousPolicy`].
    pub fn policy(&self, selector: PolicySelector<'_>) -> Result<Rc<Policy>, EngineError> {
        let state = self.state();
        let mut known = state.policies.values().filter(|policy| policy.is_known());
        match selector {
            PolicySelector::Only => match (known.next(), known.next()) {
                (Some(only), None) => Ok(Rc::clone(only)),
                _ => Err(EngineError::AmbiguousPolicy {
                    known: state.known_policies(),
                }),
            },
            PolicySelector::Named(name) => PolicyName::try_new(name)
                .ok()
                .and_then(|name| state.policies.get(&name))
                .filter(|policy| policy.is_known())
                .map(Rc::clone)
                .ok_or_else(|| EngineError::UnknownPolicy {
                    name: name.to_owned(),
                    known: state.known_policies(),
                }),
        }
    }

    /// Asks for a lease over a key or several, all or none. Checks the ask, takes a place and, where no server must
    /// be asked, has the answer already when it returns: the first poll of [`Pending`] gives it.
    ///
    /// # Errors
    /// At once what needs no waiting: [`EngineError::Invalid`], [`EngineError::KeyNotAllowed`],
    /// [`EngineError::Limit`], [`EngineError::PolicyRefused`], [`EngineError::PolicyDraining`],
    /// [`EngineError::Draining`], and [`EngineError::UnknownPolicy`] if the policy was removed since it was found.
    pub fn begin(
        &self,
        policy: &Rc<Policy>,
        keys: impl Into<Keys>,
        ask: Ask,
    ) -> Result<Pending, EngineError> {
        let now = self.clock().now();
        let mut state = self.state();
        let service = acquisition::serving(&state, policy)?;
        let begun = state.begin(now, Rc::clone(&service), keys.into(), ask);
        drop(state);
        match begun {
            Ok(acquisition) => Ok(Pending::new(self.clone(), acquisition)),
            Err(error) => {
                service.metrics.refused(error.category());
                Err(error)
            }
        }
    }

    /// [`Engine::begin`], awaited. Cancel safe: dropping it gives up the place, or releases a grant that raced.
    ///
    /// # Errors
    /// Those of [`Engine::begin`] and of [`Pending`].
    pub async fn acquire(
        &self,
        policy: &Rc<Policy>,
        keys: impl Into<Keys>,
        ask: Ask,
    ) -> Result<Granted, EngineError> {
        self.begin(policy, keys, ask)?.await
    }

    /// A lease as it is now. Counts as a sign of its owner's life.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Lost`], [`LeaseError::Released`].
    pub fn lease(&self, id: &LeaseId) -> Result<LeaseInfo, LeaseError> {
        let now = self.clock().now();
        self.state().touch(now, id)
    }

    /// Extends a lease, with a new ttl if one is named. Dropping the future does not take the renewal back.
    ///
    /// # Errors
    /// Those of [`Engine::lease`], and [`LeaseError::Invalid`], [`LeaseError::Limit`], [`LeaseError::Backend`]; after
    /// the last one the lease lives on to its deadline. Of a lease over several keys some may then reach further than
    /// others; its deadline is the earliest.
    pub async fn renew(
        &self,
        id: &LeaseId,
        ttl: Option<Duration>,
    ) -> Result<LeaseInfo, LeaseError> {
        let now = self.clock().now();
        let registry::RenewalAnswers { answers, ttl } = self.state().renew(now, id, ttl)?;
        let mut refusal = None;
        for answer in answers {
            // A slot that went away without an answer took the lease with it.
            if let Err(why) = answer.await.unwrap_or(Err(RenewRefusal::Unknown)) {
                refusal = Some(why);
            }
        }
        let now = self.clock().now();
        self.state().renewed(now, id, ttl, refusal)
    }

    /// Releases a lease. It is over when this is first polled; the hold behind it is let go, handed on or retained
    /// without making the caller wait, unless `confirm` asks for the backend's word. Dropping the future takes
    /// nothing back.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] if it had been lost before: the caller must know that it worked without the lock at the
    /// end. [`LeaseError::Released`] if it had been released before, as long as that is remembered, then
    /// [`LeaseError::Unknown`]. [`LeaseError::Unconfirmed`] with `confirm` only: the lease is over all the same.
    pub async fn release(&self, id: &LeaseId, confirm: bool) -> Result<(), LeaseError> {
        let now = self.clock().now();
        let confirmations = self.state().release(now, id, confirm)?;
        let mut result = Ok(());
        for confirmed in confirmations {
            // Dropped without a word: the slot had nothing at the backend to let go.
            if let Err(error) = confirmed.await.unwrap_or(Ok(())) {
                result = Err(LeaseError::Unconfirmed { error });
            }
        }
        result
    }

    /// Releases a lease whose owner is gone: [`Engine::release`] for a `Drop`. Does nothing if it is over.
    pub fn give_up(&self, id: &LeaseId) {
        let now = self.clock().now();
        self.state().give_up(now, id);
    }

    /// The changes of a lease from now on. Read [`Engine::lease`] in the same step for the state before the first.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Lost`], [`LeaseError::Released`].
    pub fn subscribe(&self, id: &LeaseId) -> Result<LeaseEvents, LeaseError> {
        let now = self.clock().now();
        self.state().subscribe(now, id)
    }

    /// Says that a stream which stands for the lease's owner is open: the idle limit does not apply until the guard is
    /// dropped. Several may be open.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Lost`], [`LeaseError::Released`].
    pub fn attach(&self, id: &LeaseId) -> Result<AttachGuard, LeaseError> {
        let now = self.clock().now();
        self.state().attach(now, id, true)?;
        Ok(AttachGuard::new(self.clone(), *id))
    }

    /// Who holds a key: local truth if a lease of this sidecar does, otherwise the backend is asked.
    ///
    /// # Errors
    /// [`EngineError::KeyNotAllowed`], [`EngineError::Backend`], [`EngineError::PolicyRefused`],
    /// [`EngineError::PolicyDraining`].
    pub async fn inspect(&self, policy: &Rc<Policy>, key: &Key) -> Result<KeyInfo, EngineError> {
        self.look_at(policy, key).await
    }

    /// The leases, holds and waiters of this sidecar under a policy.
    pub fn overview(&self, policy: &Rc<Policy>) -> PolicyView {
        let now = self.clock().now();
        self.state().overview(now, policy)
    }

    /// Is this token at least the highest ever presented for the key? Remembers the highest. Not cancelled by
    /// dropping the future: the outcome is then unknown.
    ///
    /// # Errors
    /// [`EngineError::KeyNotAllowed`], [`EngineError::Backend`], [`EngineError::PolicyRefused`],
    /// [`EngineError::PolicyDraining`].
    pub async fn fence(
        &self,
        policy: &Rc<Policy>,
        key: &Key,
        token: FencingToken,
    ) -> Result<FenceVerdict, EngineError> {
        self.present(policy, key, token).await
    }
}

#[cfg(test)]
mod tests;
