//! The engine's own task: backend calls that are under way, hints, timers, keepers, and the end.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt;
use pawl_kit::drain::Signal;
use pawl_lock::{Instant, LossReason, backend::BackendEvent, slot::Event};
use tokio::task::JoinSet;

use super::{
    Engine, EngineError, keeper,
    service::Service,
    state::{Due, State},
};

/// Answers that are taken before other tasks of the thread have their turn.
const ANSWERS_PER_TURN: usize = 128;
/// How long the backends are waited for when everything is let go at the end.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A task of the engine panicked.
#[derive(Debug, thiserror::Error)]
#[error("a task of the engine failed: {0}")]
pub struct EngineFailure(#[from] tokio::task::JoinError);

impl Engine {
    /// Runs the engine. It must be polled for anything to happen that needs a server or time, in a
    /// [`tokio::runtime::LocalRuntime`] or a [`tokio::task::LocalSet`]. Essential: without it no lease is renewed.
    ///
    /// When `drain` begins, new acquires are refused and those that wait are answered; leases live on for `grace` at
    /// most, then they are lost as `draining`; the holds are let go at the backends, at most 5 s long; then it ends.
    ///
    /// # Errors
    /// [`EngineFailure`], a bug: the process must end.
    pub async fn run(&self, drain: Signal, grace: Duration) -> Result<(), EngineFailure> {
        let mut keepers = JoinSet::new();
        let mut timer = None;
        let result = {
            let mut drain = pin!(drain.draining());
            poll_fn(|cx| {
                self.inner.bell.engine.register(cx.waker());
                if !self.is_draining() && drain.as_mut().poll(cx).is_ready() {
                    self.drain(grace);
                }
                self.turn(cx, &mut keepers, &mut timer)
            })
            .await
        };
        keepers.shutdown().await;
        result
    }

    /// Begins the end.
    fn drain(&self, grace: Duration) {
        let now = self.clock().now();
        let mut state = self.state();
        tracing::info!(
            leases = state.leases.len(),
            waiters = state.acquisitions.len(),
            ?grace,
            "draining the locks"
        );
        state.is_draining = true;
        state.fail_all(None, &EngineError::Draining);
        state.drain_unused(None, LossReason::Draining);
        let end = now.saturating_add(grace);
        state.at(end, Due::Drain);
        state.at(end.saturating_add(RELEASE_TIMEOUT), Due::Stop);
        state.settle(now);
        self.inner.is_news.set(true);
    }

    fn turn(
        &self,
        cx: &mut Context<'_>,
        keepers: &mut JoinSet<()>,
        timer: &mut Option<Timer>,
    ) -> Poll<Result<(), EngineFailure>> {
        let clock = self.clock();
        let mut state = self.state();
        if self.inner.bell.rang() {
            state.read_mail();
        }
        state.settle(clock.now());
        let mut answers = 0;
        while let Poll::Ready(Some(answered)) = state.calls.poll_next_unpin(cx) {
            let now = clock.now();
            state.answered(now, answered);
            state.settle(now);
            answers += 1;
            if answers == ANSWERS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        loop {
            let now = clock.now();
            state.tick(now);
            state.settle(now);
            let next = state.timers.first().map(|(at, _)| *at);
            if !poll_timer(cx, timer, next, |at| {
                Box::pin(sleep_until(clock.clone(), at))
            }) {
                break;
            }
        }
        if state.close_emptied(&self.inner.metrics) {
            self.inner.is_news.set(true);
        }
        for service in std::mem::take(&mut state.opened) {
            keepers.spawn_local(keeper::keep(self.clone(), service));
        }
        self.report(&state);
        let is_over = state.is_draining && (state.slots.is_empty() || state.is_stopped);
        let left = state.slots.len();
        drop(state);
        while let Poll::Ready(Some(ended)) = keepers.poll_join_next(cx) {
            if let Err(error) = ended {
                return Poll::Ready(Err(error.into()));
            }
        }
        if !is_over {
            return Poll::Pending;
        }
        if left > 0 {
            tracing::warn!(
                keys = left,
                "the backends did not confirm every release; what is left ends with its ttl"
            );
        }
        Poll::Ready(Ok(()))
    }
}

async fn sleep_until(clock: pawl_kit::clock::Clock, at: Instant) {
    clock.sleep_until(at).await;
}

/// The one timer of the engine: when, and the sleep until then.
type Timer = (Instant, Pin<Box<dyn Future<Output = ()>>>);

/// Sets the timer to `next` if it is not set early enough, and polls it. `true` if it rang.
fn poll_timer(
    cx: &mut Context<'_>,
    timer: &mut Option<Timer>,
    next: Option<Instant>,
    sleep: impl FnOnce(Instant) -> Pin<Box<dyn Future<Output = ()>>>,
) -> bool {
    let Some(next) = next else {
        *timer = None;
        return false;
    };
    if timer.as_ref().is_none_or(|(set, _)| *set > next) {
        *timer = Some((next, sleep(next)));
    }
    let rang = timer
        .as_mut()
        .is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
    if rang {
        *timer = None;
    }
    rang
}

impl State {
    /// Gives what the backends told to the slots.
    fn read_mail(&mut self) {
        let services: Vec<_> = self
            .policies
            .values()
            .filter_map(|policy| policy.service())
            .collect();
        for service in services {
            for event in service.mailbox.take() {
                self.pass_on(&service, event);
            }
        }
    }

    fn pass_on(&mut self, service: &Service, event: BackendEvent) {
        let slots = service.slots.borrow();
        match event {
            BackendEvent::Wanted { key, wanted } => {
                if let Some(slot) = slots.get(&key) {
                    self.push(*slot, Event::Wanted(wanted));
                }
            }
            BackendEvent::Turn { key } => {
                if let Some(slot) = slots.get(&key) {
                    self.push(*slot, Event::Turn);
                }
            }
            BackendEvent::Resync => {
                for slot in slots.values() {
                    self.push(*slot, Event::Turn);
                }
            }
            BackendEvent::SessionLost { session } => {
                for slot in slots.values() {
                    self.push(*slot, Event::SessionLost { session });
                }
            }
        }
    }

    /// The leases had time enough: they are lost now.
    pub(super) fn end_leases(&mut self) {
        for id in self.slots.ids() {
            self.push(id, Event::Drain(LossReason::Draining));
        }
    }
}
