//! The one place where the demo asks what time it is.
//!
//! Whether a lease still holds is decided on `CLOCK_BOOTTIME`, which counts the time a machine was
//! suspended and never jumps. It is one clock for all processes of a machine, so the race can also compare
//! instants that two replicas told it. Wall time is for showing only.

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// An instant of `CLOCK_BOOTTIME`, as microseconds since the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The time that passed from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The time that passed since `self`, zero when it lies ahead.
    pub fn elapsed(self) -> Duration {
        now().since(self)
    }

    /// The time left until `self`, zero when it is over.
    pub fn left(self) -> Duration {
        self.since(now())
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// Now, on the clock that lock decisions hang on.
pub fn now() -> Instant {
    Instant(micros_of(ClockId::Boottime))
}

/// Milliseconds since the Unix epoch; may jump, never decide anything by it.
pub fn wall_ms() -> i64 {
    i64::try_from(micros_of(ClockId::Realtime) / 1000).unwrap_or(i64::MAX)
}

fn micros_of(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_only_goes_forward_and_differences_do_not_wrap() {
        let a = now();
        let b = now();
        assert!(b >= a);
        assert_eq!(a.since(a + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(
            (a + Duration::from_secs(1)).since(a),
            Duration::from_secs(1)
        );
        assert!((a + Duration::from_mins(1)).left() > Duration::from_secs(59));
    }
}
