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

use std::{rc::Rc, time::Duration};

use pawl_kit::clock::Clock;
use pawl_lock::{FencingToken, Key, backend::FenceVerdict};

pub use ask::{Ask, Keys, MAX_KEYS};
pub use error::{AskProblem, EngineError, Field, LeaseError, Limit};
pub use lease::{Granted, KeyGrant, LeaseEvent, LeaseEvents, LeaseInfo};
pub use lease_id::LeaseId;
pub use pending::{AttachGuard, Pending};
pub use policy::Policy;
pub use view::{HolderInfo, KeyInfo, KeyRow, LeaseRow, PolicyView};

mod ask;
mod error;
mod lease;
mod lease_id;
mod pending;
mod policy;
mod view;

/// The most entries of any list that the engine gives out.
pub const MAX_LISTED: usize = 1000;

/// Every lock of this sidecar; cheap to clone. See the [module](self).
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Rc<Inner>,
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

/// Which policy a caller means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicySelector<'a> {
    /// `-`: the only one.
    Only,
    /// By its name. A text that is no policy name is an unknown policy.
    Named(&'a str),
}

impl Engine {
    /// The clock that all instants and deadlines of this engine belong to.
    pub fn clock(&self) -> &Clock {
        todo!()
    }

    /// Whether any policy asks for the pod's bearer token (`sidecar.auth: Token`). See [`Policy::requires_token`].
    pub fn requires_token(&self) -> bool {
        todo!()
    }

    /// Whether the sidecar is shutting down: [`Engine::begin`] answers [`EngineError::Draining`].
    pub fn is_draining(&self) -> bool {
        todo!()
    }

    /// Finds a policy that can be served.
    ///
    /// # Errors
    /// [`EngineError::UnknownPolicy`], [`EngineError::AmbiguousPolicy`], [`EngineError::PolicyRefused`].
    pub fn policy(&self, selector: PolicySelector<'_>) -> Result<Rc<Policy>, EngineError> {
        todo!()
    }

    /// Asks for a lease over a key or several, all or none. Checks the ask, takes a place and, where no server must
    /// be asked, has the answer already when it returns: the first poll of [`Pending`] gives it.
    ///
    /// # Errors
    /// At once what needs no waiting: [`EngineError::Invalid`], [`EngineError::KeyNotAllowed`],
    /// [`EngineError::Limit`], [`EngineError::PolicyDraining`], [`EngineError::Draining`].
    pub fn begin(
        &self,
        policy: &Rc<Policy>,
        keys: impl Into<Keys>,
        ask: Ask,
    ) -> Result<Pending, EngineError> {
        todo!()
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
        todo!()
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
        todo!()
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
        todo!()
    }

    /// Releases a lease whose owner is gone: [`Engine::release`] for a `Drop`. Does nothing if it is over.
    pub fn give_up(&self, id: &LeaseId) {
        todo!()
    }

    /// The changes of a lease from now on. Read [`Engine::lease`] in the same step for the state before the first.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Lost`], [`LeaseError::Released`].
    pub fn subscribe(&self, id: &LeaseId) -> Result<LeaseEvents, LeaseError> {
        todo!()
    }

    /// Says that a stream which stands for the lease's owner is open: the idle limit does not apply until the guard is
    /// dropped. Several may be open.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Lost`], [`LeaseError::Released`].
    pub fn attach(&self, id: &LeaseId) -> Result<AttachGuard, LeaseError> {
        todo!()
    }

    /// Who holds a key: local truth if a lease of this sidecar does, otherwise the backend is asked.
    ///
    /// # Errors
    /// [`EngineError::KeyNotAllowed`], [`EngineError::Backend`], [`EngineError::PolicyDraining`].
    pub async fn inspect(&self, policy: &Rc<Policy>, key: &Key) -> Result<KeyInfo, EngineError> {
        todo!()
    }

    /// The leases, holds and waiters of this sidecar under a policy.
    pub fn overview(&self, policy: &Rc<Policy>) -> PolicyView {
        todo!()
    }

    /// Is this token at least the highest ever presented for the key? Remembers the highest. Not cancelled by
    /// dropping the future: the outcome is then unknown.
    ///
    /// # Errors
    /// [`EngineError::KeyNotAllowed`], [`EngineError::Backend`], [`EngineError::PolicyDraining`].
    pub async fn fence(
        &self,
        policy: &Rc<Policy>,
        key: &Key,
        token: FencingToken,
    ) -> Result<FenceVerdict, EngineError> {
        todo!()
    }
}
