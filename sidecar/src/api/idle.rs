//! Connections that wait for a request: how many, how long, and which one goes when there are too many.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pawl_kit::clock::Clock;
use pawl_lock::Instant;

/// How long a connection may wait for its next request.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(75);

/// The connections that wait, the one that waits longest first. Bounded: one more ends that one.
#[derive(Debug)]
pub(super) struct IdleSet {
    clock: Clock,
    most: usize,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    is_closed: Cell<bool>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    waker: Option<Waker>,
}

/// A connection's place in the set, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Idle<'a> {
    set: &'a IdleSet,
    number: u64,
}

impl IdleSet {
    /// At most so many, at least one.
    pub(super) fn new(clock: Clock, most: usize) -> Self {
        Self {
            clock,
            most: most.max(1),
            next: Cell::new(0),
            waiting: RefCell::default(),
            is_closed: Cell::new(false),
        }
    }

    /// A connection begins to wait.
    pub(super) fn enter(&self) -> Idle<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        if !self.is_closed.get() {
            let since = self.clock.now();
            let waiting = Waiting { since, waker: None };
            self.waiting.borrow_mut().insert(number, waiting);
            if self.waiting.borrow().len() > self.most {
                self.end_longest();
            }
        }
        Idle { set: self, number }
    }

    /// Ends the one that waits longest. `false`: none waits.
    pub(super) fn end_longest(&self) -> bool {
        let longest = self.waiting.borrow_mut().pop_first();
        match longest {
            Some((_, waiting)) => {
                waiting.end();
                true
            }
            None => false,
        }
    }

    /// Ends those that wait longer than [`MAX_IDLE`].
    pub(super) fn end_overdue(&self) {
        let now = self.clock.now();
        let is_overdue = |waiting: &Waiting| now.saturating_since(waiting.since) >= MAX_IDLE;
        while self
            .waiting
            .borrow()
            .values()
            .next()
            .is_some_and(is_overdue)
        {
            self.end_longest();
        }
    }

    /// Ends all of them, and those that come.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        while self.end_longest() {}
    }
}

impl Waiting {
    fn end(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }
}

impl Idle<'_> {
    /// Ready when the connection has to end.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.set.waiting.borrow_mut().get_mut(&self.number) {
            Some(waiting) => {
                match &mut waiting.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.set.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    fn is_ended(idle: &Idle<'_>) -> bool {
        idle.poll_ended(&mut Context::from_waker(noop_waker_ref()))
            .is_ready()
    }

    #[test]
    fn the_one_that_waits_longest_makes_room() {
        let set = IdleSet::new(Clock::system(), 2);
        let (first, second) = (set.enter(), set.enter());
        assert!(!is_ended(&first) && !is_ended(&second));
        let third = set.enter();
        assert!(is_ended(&first) && !is_ended(&second) && !is_ended(&third));
        drop(second);
        let fourth = set.enter();
        assert!(!is_ended(&third) && !is_ended(&fourth));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (clock, hand) = Clock::manual();
        let set = IdleSet::new(clock, 9);
        let first = set.enter();
        hand.advance(MAX_IDLE / 2);
        let second = set.enter();
        hand.advance(MAX_IDLE / 2);
        set.end_overdue();
        assert!(is_ended(&first) && !is_ended(&second));
        set.close();
        assert!(is_ended(&second) && is_ended(&set.enter()));
    }
}
