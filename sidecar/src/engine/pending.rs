//! An acquire that is not answered yet, and the guard of a stream.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pawl_lock::slot::WaiterId;

use super::{Engine, EngineError, Granted, LeaseId};

/// An acquire that was begun. Await it for the answer; drop it to give up the place: a grant that raced is released
/// at once. It is `Unpin` and holds no task and no timer of its own.
///
/// # Errors
/// [`EngineError::Held`], [`EngineError::Backend`], [`EngineError::LostWhileAcquiring`], [`EngineError::Limit`],
/// [`EngineError::PolicyDraining`], [`EngineError::Draining`].
///
/// # Panics
/// When polled again after it was ready.
#[derive(Debug)]
#[must_use = "dropping it gives up the place"]
pub struct Pending {
    engine: Engine,
    /// Nothing once it was answered.
    acquisition: Option<WaiterId>,
}

impl Pending {
    pub(super) const fn new(engine: Engine, acquisition: WaiterId) -> Self {
        Self {
            engine,
            acquisition: Some(acquisition),
        }
    }

    /// How many waiters are ahead, local and (as far as known) remote; nothing if it does not wait or is not known.
    /// Of several keys, those of the key that is waited for now.
    pub fn ahead(&self) -> Option<u32> {
        self.engine.state().ahead(self.acquisition?)
    }
}

impl Future for Pending {
    type Output = Result<Granted, EngineError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self
            .acquisition
            .expect("a future is not polled after it was ready");
        let now = self.engine.clock().now();
        let mut state = self.engine.state();
        let Some(outcome) = state.take_outcome(id) else {
            state.set_waker(id, cx.waker());
            return Poll::Pending;
        };
        let outcome = outcome.and_then(|granted| state.hand_over(now, granted));
        drop(state);
        self.acquisition = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(id) = self.acquisition {
            let now = self.engine.clock().now();
            self.engine.state().cancel(now, id);
        }
    }
}

/// Keeps a lease from its idle limit as long as it lives. See [`Engine::attach`].
#[derive(Debug)]
#[must_use = "dropping it ends the attachment"]
pub struct AttachGuard {
    engine: Engine,
    lease: LeaseId,
}

impl AttachGuard {
    pub(super) const fn new(engine: Engine, lease: LeaseId) -> Self {
        Self { engine, lease }
    }
}

impl Drop for AttachGuard {
    fn drop(&mut self) {
        let now = self.engine.clock().now();
        // An error says that the lease is over.
        let _ = self.engine.state().attach(now, &self.lease, false);
    }
}
