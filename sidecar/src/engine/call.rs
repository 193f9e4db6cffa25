//! A backend call on its way.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pawl_kit::clock::Clock;
use pawl_lock::{
    Backend, BackendError, Instant,
    backend::Renewed,
    slot::{Answer, Call, CallId},
};

use super::{arena::Id, service::Service};
use crate::metrics::Operation;

/// A call on its way to a slot's [`pawl_lock::slot::Event::Answer`].
pub(super) type CallFuture = Pin<Box<dyn Future<Output = Answered>>>;

/// A call that ended.
pub(super) struct Answered {
    pub(super) slot: Id,
    pub(super) call: CallId,
    pub(super) answer: Answer,
    service: Rc<Service>,
    operation: Operation,
    start: Instant,
}

/// Makes a call. Beyond `timeout` on `clock` its answer is a timeout, whose outcome is unknown.
pub(super) fn make(
    clock: Clock,
    service: Rc<Service>,
    slot: Id,
    (id, call, timeout): (CallId, Call, Duration),
    start: Instant,
) -> CallFuture {
    Box::pin(async move {
        let operation = operation_of(&call);
        let end = start.saturating_add(timeout);
        let answer = tokio::select! {
            biased;
            answer = ask(&*service.backend.backend, &call) => answer,
            () = clock.sleep_until(end) => timed_out(&call),
        };
        Answered {
            slot,
            call: id,
            answer,
            service,
            operation,
            start,
        }
    })
}

/// Polls a call once without a waker: whoever keeps it polls it again with one. Backends that need no server answer
/// here, and the caller never leaves its own task.
pub(super) fn poll_once(call: &mut CallFuture) -> Poll<Answered> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

async fn ask(backend: &dyn Backend, call: &Call) -> Answer {
    match call {
        Call::Acquire(request) => Answer::Acquire(backend.acquire(request).await),
        Call::Renew(request) => Answer::Renew(backend.renew(request).await),
        Call::Release(request) => Answer::Release(backend.release(request).await),
        Call::Abandon(request) => Answer::Abandon(backend.abandon(request).await),
    }
}

fn timed_out(call: &Call) -> Answer {
    match call {
        Call::Acquire(_) => Answer::Acquire(Err(BackendError::timeout())),
        Call::Renew(_) => Answer::Renew(Err(BackendError::timeout())),
        Call::Release(_) => Answer::Release(Err(BackendError::timeout())),
        Call::Abandon(_) => Answer::Abandon(Err(BackendError::timeout())),
    }
}

const fn operation_of(call: &Call) -> Operation {
    match call {
        Call::Acquire(_) => Operation::Acquire,
        Call::Renew(_) => Operation::Renew,
        Call::Release(_) => Operation::Release,
        Call::Abandon(_) => Operation::Abandon,
    }
}

impl Answered {
    /// Counts the call, and asks for a check of a backend that fails: what is wrong is for the keeper to find and tell,
    /// once, and not for each call.
    pub(super) fn count(&self, now: Instant) {
        let error = match &self.answer {
            Answer::Acquire(Err(error))
            | Answer::Renew(Err(error))
            | Answer::Release(Err(error))
            | Answer::Abandon(Err(error)) => Some(error.category()),
            Answer::Acquire(Ok(_))
            | Answer::Renew(Ok(_))
            | Answer::Release(Ok(_))
            | Answer::Abandon(Ok(_)) => None,
        };
        let took = now.saturating_since(self.start);
        let metrics = &self.service.metrics;
        metrics.called(self.operation, took, error);
        if let Answer::Renew(result) = &self.answer {
            metrics.renewed(match result {
                Ok(Renewed::Extended { .. }) => "extended",
                Ok(Renewed::NotOwner) => "not_owner",
                Err(_) => "error",
            });
        }
        let was_ready = self.service.health.borrow().is_ready() != Some(false);
        if error.is_some() == was_ready {
            self.service.check_now.notify_one();
        }
    }
}
