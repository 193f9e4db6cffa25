//! The local waiters of a slot, in the order in which they came.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::event::{Acquire, WaiterId};
use crate::{
    lease::{Mode, Renew},
    name::Owner,
    time::{Instant, Ttl},
};

/// A caller that waits. Small, because there may be tens of thousands: see the test of its size.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) arrived: Instant,
    pub(super) wait_until: Instant,
    pub(super) max_hold: Duration,
    pub(super) owner: Owner,
    pub(super) ttl: Ttl,
    pub(super) mode: Mode,
    pub(super) renew: Renew,
    pub(super) is_attached: bool,
}

impl Waiter {
    pub(super) fn new(now: Instant, acquire: Acquire) -> Self {
        let Acquire {
            waiter,
            mode,
            ttl,
            wait_until,
            renew,
            max_hold,
            is_attached,
            owner,
        } = acquire;
        Self {
            id: waiter,
            arrived: now,
            wait_until,
            max_hold,
            owner,
            ttl,
            mode,
            renew,
            is_attached,
        }
    }

    /// Whether it came to wait, or only to try.
    fn is_patient(&self, now: Instant) -> bool {
        self.wait_until > now
    }
}

/// The waiters by arrival, and by the end of their patience.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    // Ids grow with arrival, so the queue is sorted by id.
    waiters: VecDeque<Waiter>,
    ends: BTreeSet<(Instant, WaiterId)>,
}

impl Queue {
    pub(super) fn push(&mut self, waiter: Waiter) {
        debug_assert!(
            self.waiters.back().is_none_or(|last| last.id < waiter.id),
            "ids grow"
        );
        self.ends.insert((waiter.wait_until, waiter.id));
        self.waiters.push_back(waiter);
    }

    pub(super) fn front(&self) -> Option<&Waiter> {
        self.waiters.front()
    }

    /// The first that came to wait and still does. The others before it are few: they go with the next answer.
    pub(super) fn first_patient(&self, now: Instant) -> Option<&Waiter> {
        self.waiters.iter().find(|waiter| waiter.is_patient(now))
    }

    pub(super) fn pop(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop_front()?;
        self.ends.remove(&(waiter.wait_until, waiter.id));
        Some(waiter)
    }

    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.remove(self.position(id)?)?;
        self.ends.remove(&(waiter.wait_until, waiter.id));
        Some(waiter)
    }

    /// Takes out a waiter whose patience is over at `now`.
    pub(super) fn pop_over(&mut self, now: Instant) -> Option<Waiter> {
        let (end, id) = *self.ends.first()?;
        (end <= now).then(|| self.remove(id)).flatten()
    }

    /// When the next one's patience is over.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// How many came before.
    pub(super) fn position(&self, id: WaiterId) -> Option<usize> {
        self.waiters
            .binary_search_by_key(&id, |waiter| waiter.id)
            .ok()
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_a_small_record() {
        // DESIGN: at most 128 bytes beside its connection. The second index costs its entry and, at worst, as much again in nodes that
        // are half full.
        assert!(size_of::<Waiter>() + 2 * size_of::<(Instant, WaiterId)>() <= 128);
    }

    fn waiter(id: u64, end: u64) -> Waiter {
        let acquire = Acquire {
            waiter: WaiterId(id),
            mode: Mode::Exclusive,
            ttl: Ttl::MIN,
            wait_until: Instant::from_nanos(end),
            renew: Renew::Auto,
            max_hold: Duration::from_secs(1),
            is_attached: false,
            owner: Owner::try_new("me").unwrap(),
        };
        Waiter::new(Instant::from_nanos(0), acquire)
    }

    #[test]
    fn keeps_the_order_of_arrival_and_knows_whose_patience_is_over() {
        let mut queue = Queue::default();
        for (id, end) in [(1, 50), (2, 10), (5, 30)] {
            queue.push(waiter(id, end));
        }
        assert_eq!(queue.position(WaiterId(5)), Some(2));
        assert_eq!(queue.next_end(), Some(Instant::from_nanos(10)));
        assert_eq!(
            queue
                .pop_over(Instant::from_nanos(9))
                .map(|waiter| waiter.id),
            None
        );
        assert_eq!(
            queue
                .pop_over(Instant::from_nanos(30))
                .map(|waiter| waiter.id),
            Some(WaiterId(2))
        );
        assert_eq!(queue.pop().map(|waiter| waiter.id), Some(WaiterId(1)));
        assert_eq!(queue.remove(WaiterId(1)).map(|waiter| waiter.id), None);
        assert_eq!(
            queue.remove(WaiterId(5)).map(|waiter| waiter.id),
            Some(WaiterId(5))
        );
        assert!(queue.is_empty() && queue.next_end().is_none());
        assert_eq!(queue.len(), 0);
    }
}
