//! An acquire that is not answered yet, and the guard of a stream.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{EngineError, Granted};

/// An acquire that was begun. Await it for the answer; drop it to give up the place: a grant that raced is released
/// at once. It is `Unpin` and holds no task and no timer of its own.
///
/// # Errors
/// [`EngineError::Held`], [`EngineError::Backend`], [`EngineError::LostWhileAcquiring`], [`EngineError::Limit`],
/// [`EngineError::PolicyDraining`], [`EngineError::Draining`].
#[derive(Debug)]
#[must_use = "dropping it gives up the place"]
pub struct Pending {}

impl Pending {
    /// How many waiters are ahead, local and (as far as known) remote; nothing if it does not wait or is not known.
    /// Of several keys, those of the key that is waited for now.
    pub fn ahead(&self) -> Option<u32> {
        todo!()
    }
}

impl Future for Pending {
    type Output = Result<Granted, EngineError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// Keeps a lease from its idle limit as long as it lives. See [`super::Engine::attach`].
#[derive(Debug)]
#[must_use = "dropping it ends the attachment"]
pub struct AttachGuard {}
