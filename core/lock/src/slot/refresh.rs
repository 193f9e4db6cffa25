//! New tokens for a shared hold that has leases.
//!
//! While a sidecar serves shared leases, another may be granted a shared hold with a larger token, and a lease that is
//! asked for after that must be above it. So a hold serves in shared mode only who came before its own call left. For
//! those who come later a second hold is taken beside it, which the backend allows; the leases move into that one
//! with the tokens that they have, and the old one is abandoned.

use std::sync::Arc;

use super::{
    Action, Call, Phase, Refusal, Slot,
    debts::Debt,
    flight::{Flight, Kind},
    hold::{Hold, Service, Want},
};
use crate::{
    backend::{
        Acquired, AcquireRequest, BackendError, Granted, Outcome, Place, Retry, Wanted,
    },
    lease::{Mode, Order},
    name::HoldId,
    time::{Deadline, Instant, Ttl},
};

/// The second hold of a shared hold.
#[derive(Debug)]
pub(super) enum Refresh {
    /// None is asked for.
    Idle,
    /// Its call is under way.
    Asking {
        id: HoldId,
        ttl: Ttl,
        /// The arrival of the waiter that it is for.
        dated: Instant,
    },
    /// Its last call failed.
    BackingOff {
        until: Instant,
        failures: u32,
        error: Arc<BackendError>,
    },
}

impl Refresh {
    pub(super) fn next_at(&self) -> Option<Instant> {
        match self {
            Self::BackingOff { until, .. } => Some(*until),
            Self::Idle | Self::Asking { .. } => None,
        }
    }

    pub(super) fn error(&self) -> Option<&Arc<BackendError>> {
        match self {
            Self::BackingOff { error, .. } => Some(error),
            Self::Idle | Self::Asking { .. } => None,
        }
    }

    fn failures(&self) -> u32 {
        match self {
            Self::BackingOff { failures, .. } => *failures,
            Self::Idle | Self::Asking { .. } => 0,
        }
    }
}

impl Slot {
    /// Whether the second hold can be asked for at `now`: it must be possible to abandon it and the first.
    pub(super) fn can_refresh(&self, now: Instant, hold: &Hold) -> bool {
        hold.refresh.next_at().is_none_or(|until| until <= now) && self.debts.have_room_for(2)
    }

    /// Asks for the second hold, if the oldest waiter needs it.
    pub(super) fn call_refresh(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Phase::Held(hold) = &self.phase else {
            return false;
        };
        let Some(front) = self.queue.front() else {
            return false;
        };
        if self.front_service(now, hold) != Some(Service::AfterRefresh)
            || !self.can_refresh(now, hold)
        {
            return false;
        }
        let ttl = front.ttl.max(hold.leases.longest_ttl().unwrap_or(front.ttl));
        // The leases move, and what they were told must not move back.
        let ttl = if Deadline::after(now, ttl) < hold.deadline {
            hold.ttl
        } else {
            ttl
        };
        let dated = front.arrived;
        let request = AcquireRequest {
            key: self.key.clone(),
            hold: self.ids.next_id(),
            mode: Mode::Shared,
            ttl,
            order: self.terms.order,
            place: Some(Place {
                age: now.saturating_since(dated),
                keep: self.terms.poll * 3,
            }),
            lock_delay: self.terms.lock_delay,
            owner: front.owner.clone(),
        };
        let id = request.hold;
        if let Phase::Held(hold) = &mut self.phase {
            hold.refresh = Refresh::Asking { id, ttl, dated };
        }
        self.launch(now, Kind::Acquire, id, ttl, Call::Acquire(request), actions);
        true
    }

    /// The second hold was answered; or a hold was lost while it was asked for.
    pub(super) fn refresh_answered(
        &mut self,
        now: Instant,
        flight: &Flight,
        result: Result<Acquired, BackendError>,
        actions: &mut Vec<Action>,
    ) {
        let dated = match &self.phase {
            Phase::Held(hold) => match hold.refresh {
                Refresh::Asking { id, dated, .. } if id == flight.hold => Some(dated),
                _ => None,
            },
            _ => None,
        };
        let Some(dated) = dated else {
            return self.debts.call_ended(now, flight.hold);
        };
        let result = match result {
            Ok(Acquired::Granted(granted)) => self
                .judge(now, flight, &granted)
                .map(|()| self.refreshed(now, flight, dated, &granted)),
            Ok(Acquired::Busy(_)) => {
                self.refresh_busy(now, flight, dated);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.refresh_failed(now, flight, Arc::new(error), actions);
        }
    }

    /// The leases move into the second hold.
    fn refreshed(&mut self, now: Instant, flight: &Flight, dated: Instant, granted: &Granted) {
        let Phase::Held(hold) = &mut self.phase else {
            return;
        };
        self.debts
            .push(Debt::new(now, hold.id, hold.mode, hold.longest_ttl));
        self.last_token = Some(granted.token);
        hold.id = flight.hold;
        hold.token = granted.token;
        hold.session = granted.session;
        hold.ttl = flight.ttl;
        hold.longest_ttl = flight.ttl;
        hold.deadline = Deadline::after(flight.started, flight.ttl);
        hold.renew_at = flight.started.saturating_add(flight.ttl.as_duration() / 3);
        hold.failures = 0;
        hold.error = None;
        hold.token_since = flight.started;
        hold.is_doubtful = false;
        hold.served = 0;
        hold.refresh = Refresh::Idle;
        // Under `Any` the backend did not look at the queue: those who are passed are still counted.
        hold.dated = match self.terms.order {
            Order::Fifo => dated,
            Order::Any => Instant::from_nanos(0),
        };
        let want = granted.wanted.map(|wanted| Want::new(now, wanted));
        hold.refresh_want(flight.started, want);
    }

    /// Somebody older stands in the way, who could not share: nobody joins any more, and the waiter's place is taken
    /// again when the leases ended.
    fn refresh_busy(&mut self, now: Instant, flight: &Flight, dated: Instant) {
        self.owe(now, flight);
        if let Phase::Held(hold) = &mut self.phase {
            hold.refresh = Refresh::Idle;
            let age = now.saturating_since(dated) + std::time::Duration::from_nanos(1);
            let mode = Mode::Exclusive;
            hold.hear(Want::new(now, Wanted { mode, age }));
        }
    }

    fn refresh_failed(
        &mut self,
        now: Instant,
        flight: &Flight,
        error: Arc<BackendError>,
        actions: &mut Vec<Action>,
    ) {
        if error.outcome() == Outcome::Unknown {
            self.owe(now, flight);
        }
        if error.retry() == Retry::Rarely {
            self.refuse_all(&Refusal::Backend(error.clone()), actions);
        }
        if let Phase::Held(hold) = &mut self.phase {
            let failures = hold.refresh.failures().saturating_add(1);
            let delay = self.terms.retry.delay(failures, &mut self.jitter);
            hold.refresh = Refresh::BackingOff {
                until: now.saturating_add(delay),
                failures,
                error,
            };
        }
    }

    fn owe(&mut self, now: Instant, flight: &Flight) {
        self.debts
            .push(Debt::new(now, flight.hold, Mode::Shared, flight.ttl));
    }

    /// The hold is gone while its second one is asked for: that is not wanted any more.
    pub(super) fn owe_refresh(&mut self, now: Instant, hold: &Hold) {
        if let Refresh::Asking { id, ttl, .. } = hold.refresh {
            self.debts.push(Debt::new(now, id, hold.mode, ttl));
        }
    }
}
