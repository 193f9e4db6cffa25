//! Instants, times to live and the deadline rule.

use std::{fmt, time::Duration};

/// An instant on the machine's boot clock (`CLOCK_BOOTTIME`, which counts suspend), in nanoseconds.
///
/// Instants come from outside: `pawl_kit::clock` in the daemons, a counter in tests. Instants of two machines must not
/// be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The instant `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This instant and `by`; stays at the end of the range (584 years) instead of wrapping.
    #[must_use]
    pub const fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    /// This instant less `by`, not before boot.
    #[must_use]
    pub const fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }

    /// The first instant from this one on that is a whole number of `grain`s after boot; this one if `grain` is zero.
    #[must_use]
    pub const fn round_up(self, grain: Duration) -> Self {
        match self.0.checked_next_multiple_of(nanos(grain)) {
            Some(nanos) => Self(nanos),
            None => self,
        }
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

const fn nanos(by: Duration) -> u64 {
    let nanos = by.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "compared with u64::MAX above"
        )]
        let nanos = nanos as u64;
        nanos
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{:?}", Duration::from_nanos(self.0))
    }
}

/// A time to live: 100 ms to 1 h, whole milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ttl(u32);

/// A duration that cannot be a [`Ttl`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a ttl lies between 100ms and 1h, and {}ms does not", .0.as_millis())]
pub struct InvalidTtl(Duration);

impl Ttl {
    /// The shortest time to live: below it, the deadline rule leaves no time to do anything.
    pub const MIN: Self = Self(100);
    /// The longest time to live.
    pub const MAX: Self = Self(3_600_000);

    /// A time to live; parts of a millisecond are dropped.
    ///
    /// # Errors
    /// [`InvalidTtl`] outside [`Ttl::MIN`] to [`Ttl::MAX`].
    pub fn try_new(ttl: Duration) -> Result<Self, InvalidTtl> {
        match u32::try_from(ttl.as_millis()) {
            Ok(millis) if (Self::MIN.0..=Self::MAX.0).contains(&millis) => Ok(Self(millis)),
            _ => Err(InvalidTtl(ttl)),
        }
    }

    /// Milliseconds, 100 to 3 600 000.
    pub const fn as_millis(self) -> u32 {
        self.0
    }

    /// The same as a [`Duration`].
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

/// The local instant after which a holder must not believe that it holds.
///
/// `start + ttl - ttl/100 - 2 ms`, where `start` is the instant *before* the request left: the server's time to live
/// began later, so it ends later. The hundredth allows for clocks that run at different rates and the 2 ms for the
/// granularity of the server's expiry (the drift of
/// [Redlock](https://redis.io/docs/latest/develop/use/patterns/distributed-locks/)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// What is taken off for the granularity of the server's expiry.
    pub const GRANULARITY: Duration = Duration::from_millis(2);

    /// The deadline of a ttl that was asked for at `start`.
    pub fn after(start: Instant, ttl: Ttl) -> Self {
        Self(start.saturating_add(Self::validity(ttl)))
    }

    /// How long `ttl` is believed, counted from before it was asked for.
    pub fn validity(ttl: Ttl) -> Duration {
        let ttl = ttl.as_duration();
        ttl.saturating_sub(ttl / 100)
            .saturating_sub(Self::GRANULARITY)
    }

    /// A deadline at an instant that another rule made, such as the end of `maxHold`.
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant itself.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// Whether the holder must have stopped believing: at the deadline it has.
    pub fn is_over(self, now: Instant) -> bool {
        now >= self.0
    }

    /// The time left at `now`, zero when it is over.
    pub fn left(self, now: Instant) -> Duration {
        self.0.saturating_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_a_hundredth_and_two_milliseconds_before_the_end_of_the_ttl() {
        let ttl = Ttl::try_new(Duration::from_secs(10)).unwrap();
        let start = Instant::from_nanos(5_000_000_000);
        let deadline = Deadline::after(start, ttl);
        assert_eq!(
            deadline.left(start),
            Duration::from_millis(10_000 - 100 - 2)
        );
        let last = deadline.instant().saturating_sub(Duration::from_nanos(1));
        assert!(!deadline.is_over(last));
        assert!(
            deadline.is_over(deadline.instant()),
            "at the deadline it is over"
        );
    }

    #[test]
    fn every_ttl_leaves_time_and_ends_before_the_server_does() {
        for millis in (Ttl::MIN.as_millis()..=Ttl::MAX.as_millis()).step_by(997) {
            let ttl = Ttl::try_new(Duration::from_millis(millis.into())).unwrap();
            let validity = Deadline::validity(ttl);
            assert!(validity > Duration::ZERO);
            assert!(validity <= ttl.as_duration().mul_f64(0.991));
        }
    }

    #[test]
    fn a_ttl_out_of_range_is_refused_with_the_range() {
        for wrong in [
            Duration::ZERO,
            Duration::from_millis(99),
            Duration::from_secs(3_601),
        ] {
            let error = Ttl::try_new(wrong).unwrap_err().to_string();
            assert!(error.contains("100ms") && error.contains("1h"), "{error}");
        }
    }

    #[test]
    fn time_stops_at_the_ends_of_its_range_instead_of_wrapping() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(
            late.saturating_add(Duration::MAX),
            Instant::from_nanos(u64::MAX)
        );
        assert_eq!(
            Instant::default().saturating_sub(Duration::MAX),
            Instant::default()
        );
        assert_eq!(Instant::default().saturating_since(late), Duration::ZERO);
    }
}
