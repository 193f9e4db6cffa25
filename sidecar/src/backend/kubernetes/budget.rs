//! How many requests the API server is sent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pawl_lock::Instant;

/// How many requests a second a sidecar sends at most, over a longer time.
pub(super) const REQUESTS_PER_SECOND: u32 = 50;
/// How many it sends at once after a while of silence.
pub(super) const BURST: u32 = 100;
/// What of it new attempts leave to renewals and releases.
const RESERVE: f64 = 25.0;
/// The part of the rate that renewals may need.
const RENEWALS: f64 = 0.75;
/// How often a hold is renewed in its ttl.
const RENEWALS_PER_TTL: f64 = 3.0;
/// The longest time that the server can make all calls wait; longer ones hold for new attempts only.
const URGENT_WAIT: Duration = Duration::from_secs(1);
/// The longest time that the server can make anything wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How much a request matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Urgency {
    /// Somebody holds, and may lose what they hold.
    Held,
    /// Somebody wants something, or nobody waits at all.
    Wanted,
}

/// A token bucket, with what the server said about waiting. Shared by all backends of a process; cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Mutex<State>>);

struct State {
    tokens: f64,
    filled: Instant,
    urgent_from: Instant,
    wanted_from: Instant,
    /// Renewals a second that the holds of this process need.
    renewals: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            tokens: BURST.into(),
            filled: Instant::default(),
            urgent_from: Instant::default(),
            wanted_from: Instant::default(),
            renewals: 0.0,
        })))
    }
}

/// What a request has to do before it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Nothing: it is counted.
    Now,
    /// Ask again after this time.
    After(Duration),
    /// Fail: the server said so, for this time.
    Refused(Duration),
}

impl Budget {
    /// Counts a request, if it may be sent now.
    pub(super) fn ask(&self, urgency: Urgency, now: Instant) -> Turn {
        let mut state = self.state();
        let from = match urgency {
            Urgency::Held => state.urgent_from,
            Urgency::Wanted => state.wanted_from,
        };
        if from > now {
            return Turn::Refused(from.saturating_since(now));
        }
        let rate = f64::from(REQUESTS_PER_SECOND);
        let passed = now.saturating_since(state.filled).as_secs_f64();
        state.filled = now;
        state.tokens = (state.tokens + passed * rate).min(BURST.into());
        let needed = match urgency {
            Urgency::Held => 1.0,
            Urgency::Wanted => 1.0 + RESERVE,
        };
        if state.tokens >= needed {
            state.tokens -= 1.0;
            return Turn::Now;
        }
        Turn::After(Duration::from_secs_f64((needed - state.tokens) / rate))
    }

    /// The server asked to be left alone for a while.
    pub(super) fn wait(&self, by: Duration, now: Instant) {
        let mut state = self.state();
        let until = |most: Duration| now.saturating_add(by.min(most));
        state.urgent_from = state.urgent_from.max(until(URGENT_WAIT));
        state.wanted_from = state.wanted_from.max(until(LONGEST_WAIT));
    }

    /// Whether the renewals of one more hold fit.
    pub(super) fn has_room(&self, ttl: Duration) -> bool {
        self.state().renewals + renewals(ttl) <= RENEWALS * f64::from(REQUESTS_PER_SECOND)
    }

    /// Counts the renewals of a hold.
    pub(super) fn holds(&self, ttl: Duration) {
        self.state().renewals += renewals(ttl);
    }

    /// Counts them no more.
    pub(super) fn let_go(&self, ttl: Duration) {
        let mut state = self.state();
        state.renewals = (state.renewals - renewals(ttl)).max(0.0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn renewals(ttl: Duration) -> f64 {
    RENEWALS_PER_TTL / ttl.as_secs_f64().max(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn sent(budget: &Budget, urgency: Urgency, now: Instant) -> u32 {
        let mut count = 0;
        while budget.ask(urgency, now) == Turn::Now {
            count += 1;
        }
        count
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let budget = Budget::default();
        assert_eq!(sent(&budget, Urgency::Held, at(0)), BURST);
        assert_eq!(sent(&budget, Urgency::Held, at(1_000)), REQUESTS_PER_SECOND);
        assert_eq!(
            sent(&budget, Urgency::Held, at(3_600_000)),
            BURST,
            "it does not save up"
        );
        let Turn::After(wait) = budget.ask(Urgency::Held, at(3_600_000)) else {
            panic!("it is used up");
        };
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_millis(20),
            "{wait:?}"
        );
    }

    #[test]
    fn attempts_leave_something_to_renewals() {
        let budget = Budget::default();
        let attempts = sent(&budget, Urgency::Wanted, at(0));
        assert_eq!(attempts, BURST - 25);
        assert_eq!(sent(&budget, Urgency::Held, at(0)), 25);
    }

    #[test]
    fn the_server_can_ask_for_quiet_but_not_end_holds() {
        let budget = Budget::default();
        budget.wait(Duration::from_secs(30), at(0));
        assert_eq!(
            budget.ask(Urgency::Wanted, at(29_999)),
            Turn::Refused(Duration::from_millis(1))
        );
        assert!(matches!(
            budget.ask(Urgency::Held, at(999)),
            Turn::Refused(_)
        ));
        assert_eq!(budget.ask(Urgency::Held, at(1_000)), Turn::Now);
        assert_eq!(budget.ask(Urgency::Wanted, at(30_000)), Turn::Now);
        budget.wait(Duration::from_hours(9), at(30_000));
        assert_eq!(
            budget.ask(Urgency::Wanted, at(90_000)),
            Turn::Now,
            "at most a minute"
        );
    }

    #[test]
    fn no_more_holds_than_can_be_renewed() {
        let budget = Budget::default();
        let ttl = Duration::from_secs(10);
        let mut holds = 0;
        while budget.has_room(ttl) {
            budget.holds(ttl);
            holds += 1;
        }
        assert_eq!(holds, 125);
        budget.let_go(ttl);
        assert!(budget.has_room(ttl));
    }
}
