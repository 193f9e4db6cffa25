//! The one place where time is read.
//!
//! Lock decisions hang on [`pawl_lock::Instant`], nanoseconds of `CLOCK_BOOTTIME`: it never goes back and it counts the
//! time in which the machine was suspended, so a holder that was asleep finds its deadline passed. Wall time ([`Wall`])
//! may jump and is only ever shown.

use std::fmt;
use std::time::Duration;

use pawl_lock::Instant;
use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};
use tokio::sync::watch;

/// How long [`Clock::sleep_until`] sleeps at most before it looks at the boot clock again.
const RECHECK: Duration = Duration::from_secs(1);

/// Where a manual clock starts: not at zero, so that a test may look back.
const MANUAL_START: Duration = Duration::from_hours(1);

/// The wall time that a manual clock shows at its start: 2026-01-01T00:00:00Z.
const MANUAL_WALL_START: i64 = 1_767_225_600;

/// A clock; cheap to clone. All clones of a manual clock show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Nanoseconds since boot, as the [`ClockHand`] sets them.
    Manual(watch::Receiver<u64>),
}

/// Moves a manual clock. Time stands still for good when it is dropped.
#[derive(Debug)]
pub struct ClockHand(watch::Sender<u64>);

impl Clock {
    /// The machine's clock: `CLOCK_BOOTTIME`, see `clock_gettime(2)`.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock for tests that moves only by its hand. It starts an hour after boot, at 2026-01-01T00:00:00Z.
    pub fn manual() -> (Self, ClockHand) {
        let (hand, shown) = watch::channel(nanos(MANUAL_START));
        (Self(Source::Manual(shown)), ClockHand(hand))
    }

    /// The instant that lock decisions are taken at. Never goes back; counts suspend.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => {
                let time = clock_gettime(ClockId::Boottime);
                let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
                Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
            }
            Source::Manual(shown) => Instant::from_nanos(*shown.borrow()),
        }
    }

    /// The time of day, for people. Nothing is decided on it.
    pub fn wall(&self) -> Wall {
        match &self.0 {
            Source::System => Wall(jiff::Timestamp::now()),
            Source::Manual(shown) => {
                let passed = Duration::from_nanos(*shown.borrow()).saturating_sub(MANUAL_START);
                let start = jiff::Timestamp::from_second(MANUAL_WALL_START);
                Wall(start.unwrap_or(jiff::Timestamp::UNIX_EPOCH)).plus(passed)
            }
        }
    }

    /// The time of day at which this clock will show `at`, as far as can be told now.
    pub fn wall_at(&self, at: Instant) -> Wall {
        self.wall().plus(at.saturating_since(self.now()))
    }

    /// Waits until this clock shows `deadline` or later; returns at once when it does already.
    ///
    /// Timers of tokio run on `CLOCK_MONOTONIC`, which stands still while the machine is suspended. So this sleeps in
    /// slices of at most a second and looks at the boot clock after each: it never returns early, and after a suspend
    /// it returns at most a second late. The caller reads [`Clock::now`] again after it and decides on that, not on
    /// the deadline it asked for.
    ///
    /// Cancel safe: it holds no state but the deadline.
    pub async fn sleep_until(&self, deadline: Instant) {
        match &self.0 {
            Source::System => loop {
                let left = deadline.saturating_since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(RECHECK)).await;
            },
            Source::Manual(shown) => {
                let mut shown = shown.clone();
                let reached = shown
                    .wait_for(|nanos| *nanos >= deadline.as_nanos())
                    .await
                    .is_ok();
                if !reached {
                    // The hand is gone: this instant never comes.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Waits for `by` on this clock, counted from the call. Cancel safe. See [`Clock::sleep_until`].
    pub fn sleep(&self, by: Duration) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        let deadline = clock.now().saturating_add(by);
        async move { clock.sleep_until(deadline).await }
    }
}

impl ClockHand {
    /// Moves the clock `by` ahead and wakes those that sleep until then.
    pub fn advance(&self, by: Duration) {
        self.0
            .send_modify(|shown| *shown = shown.saturating_add(nanos(by)));
    }

    /// Moves the clock ahead to `at`; a clock that shows a later instant stays where it is.
    pub fn advance_to(&self, at: Instant) {
        self.0
            .send_modify(|shown| *shown = (*shown).max(at.as_nanos()));
    }
}

/// A time of day in UTC, shown as RFC 3339 with milliseconds: `2026-01-01T00:00:00.000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wall(jiff::Timestamp);

impl Wall {
    /// This time and `by`; stays at the end of the range (year 9999) instead of wrapping.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by).unwrap_or(jiff::Timestamp::MAX))
    }

    /// This time less `by`; stays at the start of the range instead of wrapping.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by).unwrap_or(jiff::Timestamp::MIN))
    }

    /// The form that HTTP headers have, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7); empty outside of the years 0
    /// to 9999.
    pub fn to_http_date(self) -> String {
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&self.0)
            .unwrap_or_default()
    }

    /// Milliseconds since 1970; may be negative.
    pub fn unix_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Seconds since 1970, for metrics; may be negative.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Wall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_the_boot_clock_and_never_goes_back() {
        let clock = Clock::system();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let shown = Duration::from_nanos(clock.now().as_nanos()).as_secs_f64();
        assert!(
            (shown - uptime).abs() < 2.0,
            "{shown} against /proc/uptime {uptime}"
        );
        let mut last = clock.now();
        for _ in 0..10_000 {
            let next = clock.now();
            assert!(next >= last);
            last = next;
        }
    }

    /// A machine cannot be suspended for a test, but a time namespace can set its boot clock a day ahead of its
    /// monotonic clock, as a suspend of a day does. /proc/uptime shows the boot clock.
    #[test]
    fn time_spent_suspended_counts() {
        let told = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--time", "--boottime", "86400"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "clock::tests::the_system_clock_is_the_boot_clock_and_never_goes_back",
            ])
            .output()
            .expect("unshare of the package util-linux");
        let text = String::from_utf8_lossy(&told.stdout);
        let failed = String::from_utf8_lossy(&told.stderr);
        assert!(
            told.status.success(),
            "needs user and time namespaces: {failed}{text}"
        );
        assert!(text.contains("1 passed"), "{text}");
    }

    #[tokio::test]
    async fn sleeping_on_the_system_clock_never_ends_early() {
        let clock = Clock::system();
        for millis in [0, 1, 7, 30] {
            let deadline = clock.now().saturating_add(Duration::from_millis(millis));
            clock.sleep_until(deadline).await;
            assert!(clock.now() >= deadline);
        }
    }

    #[tokio::test]
    async fn a_manual_clock_moves_only_by_its_hand() {
        let (clock, hand) = Clock::manual();
        let start = clock.now();
        let mut sleeper = tokio::task::JoinSet::new();
        sleeper.spawn(clock.sleep(Duration::from_secs(10)));
        hand.advance(Duration::from_millis(9_999));
        tokio::task::yield_now().await;
        assert!(sleeper.try_join_next().is_none());
        assert_eq!(
            clock.now().saturating_since(start),
            Duration::from_millis(9_999)
        );
        hand.advance(Duration::from_millis(1));
        sleeper.join_next().await.unwrap().unwrap();
        hand.advance_to(start);
        assert_eq!(clock.now().saturating_since(start), Duration::from_secs(10));
    }

    #[test]
    fn wall_time_is_rfc_3339_in_utc_with_milliseconds() {
        let (clock, hand) = Clock::manual();
        assert_eq!(clock.wall().to_string(), "2026-01-01T00:00:00.000Z");
        hand.advance(Duration::from_micros(61_234_567));
        assert_eq!(clock.wall().to_string(), "2026-01-01T00:01:01.234Z");
        assert_eq!(clock.wall().to_http_date(), "Thu, 01 Jan 2026 00:01:01 GMT");
        let later = clock.now().saturating_add(Duration::from_secs(1));
        assert_eq!(
            serde_json::to_string(&clock.wall_at(later)).unwrap(),
            r#""2026-01-01T00:01:02.234Z""#
        );
        let passed = Duration::from_micros(61_234_567);
        assert_eq!(
            clock.wall().minus(passed).to_string(),
            "2026-01-01T00:00:00.000Z"
        );
        assert_eq!(
            clock.wall().plus(Duration::MAX).to_string().get(..4),
            Some("9999")
        );
        let now = Clock::system().wall().unix_seconds();
        assert!(now > MANUAL_WALL_START - 86_400 * 365, "{now}");
    }
}
