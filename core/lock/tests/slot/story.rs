//! A slot and its clock, told event by event.

use std::{sync::Arc, time::Duration};

use pawl_lock::{
    BackendToken, Instant, Key, Owner, Ttl,
    backend::{Acquired, Granted, Wanted},
    lease::{Grant, LeaseRef, Mode, Order, Renew},
    name::HoldIds,
    slot::{Acquire, Action, Answer, Backoff, Call, CallId, Event, Slot, Terms, WaiterId},
};

/// A slot, the time, and what it asked for.
pub(crate) struct Story {
    pub(crate) slot: Slot,
    pub(crate) now: Instant,
    pub(crate) actions: Vec<Action>,
    pub(crate) waiters: u64,
}

impl Story {
    pub(crate) fn new(order: Order) -> Self {
        let terms = Terms {
            order,
            lock_delay: Duration::ZERO,
            retain: Duration::from_secs(1),
            idle: None,
            retry: Backoff {
                initial: Duration::from_millis(50),
                max: Duration::from_secs(2),
                factor: 2,
                is_jittered: true,
            },
            poll: Duration::from_secs(1),
            call_timeout: Duration::from_secs(2),
        };
        Self {
            slot: Slot::new(
                Key::try_new("k").unwrap(),
                Arc::new(terms),
                HoldIds::new(1, 1),
            ),
            now: Instant::from_nanos(1_000_000_000),
            actions: Vec::new(),
            waiters: 0,
        }
    }

    pub(crate) fn on(&mut self, event: Event) -> &mut Self {
        self.slot.on(self.now, event, &mut self.actions);
        self
    }

    pub(crate) fn after(&mut self, millis: u64) -> &mut Self {
        self.now = self.now.saturating_add(Duration::from_millis(millis));
        self
    }

    pub(crate) fn acquire(&mut self, mode: Mode, wait: u64, renew: Renew) -> WaiterId {
        self.waiters += 1;
        let waiter = WaiterId(self.waiters);
        self.on(Event::Acquire(Acquire {
            waiter,
            mode,
            ttl: Ttl::try_new(Duration::from_secs(10)).unwrap(),
            wait_until: self.now.saturating_add(Duration::from_millis(wait)),
            renew,
            max_hold: Duration::from_secs(600),
            is_attached: false,
            owner: Owner::try_new("me").unwrap(),
        }));
        waiter
    }

    /// The one call that was asked for since the last look.
    pub(crate) fn call(&mut self) -> (CallId, Call) {
        let calls: Vec<_> = self
            .actions
            .extract_if(.., |action| matches!(action, Action::Call { .. }))
            .collect();
        match <[Action; 1]>::try_from(calls) {
            Ok([Action::Call { id, call, .. }]) => (id, call),
            other => panic!("one call was expected, not {other:?}"),
        }
    }

    pub(crate) fn no_call(&self) {
        assert!(
            !self
                .actions
                .iter()
                .any(|action| matches!(action, Action::Call { .. })),
            "{:?}",
            self.actions
        );
    }

    pub(crate) fn grant(&mut self) -> Grant {
        let mut grants = self
            .actions
            .extract_if(.., |action| matches!(action, Action::Grant { .. }));
        match grants.next() {
            Some(Action::Grant { grant, .. }) => grant,
            other => panic!("a grant was expected, not {other:?}"),
        }
    }

    pub(crate) fn answer(&mut self, call: CallId, answer: Answer) -> &mut Self {
        self.on(Event::Answer { call, answer })
    }

    /// Takes the lock from the backend, with this token.
    pub(crate) fn held(token: u64) -> (Self, LeaseRef) {
        let mut story = Self::new(Order::Fifo);
        story.acquire(Mode::Exclusive, 0, Renew::Auto);
        let (call, _) = story.call();
        story.answer(call, granted(token, None));
        let lease = story.grant().lease;
        (story, lease)
    }

    pub(crate) fn release(&mut self, lease: LeaseRef) -> &mut Self {
        self.on(Event::Release {
            lease,
            confirm: false,
        })
    }
}

pub(crate) fn granted(token: u64, wanted: Option<Wanted>) -> Answer {
    let token = BackendToken::try_new(token).unwrap();
    Answer::Acquire(Ok(Acquired::Granted(Granted {
        token,
        session: 0,
        wanted,
    })))
}

pub(crate) fn wanted(age: u64) -> Wanted {
    Wanted {
        mode: Mode::Exclusive,
        age: Duration::from_millis(age),
    }
}
