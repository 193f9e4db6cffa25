//! Durations as people write them, and numbers as people read them.

use std::time::Duration;

/// The longest duration that any option or header takes.
pub const LONGEST: Duration = Duration::from_hours(24);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not digits followed by a unit, repeated.
    #[error("`{0}` is not a duration; write it like 250ms, 10s or 1h30m")]
    Malformed(String),
    /// More than [`LONGEST`].
    #[error("`{0}` is too long; at most 24h")]
    TooLong(String),
}

/// Reads a Gateway-API duration: `1h30m`, `10s`, `250ms`, `0s`. At most 24 hours.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.chars().take(40).collect());
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 9 {
            return Err(malformed());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| malformed())?;
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(malformed()),
        };
        rest = &rest[unit..];
        total += Duration::from_millis(number.saturating_mul(millis));
        if total > LONGEST {
            return Err(DurationError::TooLong(text.to_owned()));
        }
    }
    Ok(total)
}

/// Writes a duration the way [`parse_duration`] reads it, in whole milliseconds.
pub fn format_duration(d: Duration) -> String {
    let ms = d.as_millis();
    if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

/// Milliseconds with two digits after the point, for tables and reports.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rounded to hundredths of a millisecond on purpose; exact up to 2^52 microseconds"
)]
pub fn millis(d: Duration) -> f64 {
    ((d.as_micros() as u64) as f64 / 10.0).round() / 100.0
}

/// The value at quantile `q` (0 to 1, nearest rank) of `samples`, zero when there are none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a sample list, rounded up and clamped to its bounds"
)]
pub fn quantile(samples: &[Duration], q: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    let index = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_api_writes() {
        for (text, ms) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        assert_eq!(
            parse_duration(&format_duration(Duration::from_millis(1500))),
            Ok(Duration::from_millis(1500))
        );
        assert_eq!(format_duration(Duration::from_secs(3)), "3s");
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "1d",
            "ms",
            "9999999999s",
            "1sé",
        ] {
            assert!(
                matches!(parse_duration(text), Err(DurationError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!(
            parse_duration("25h"),
            Err(DurationError::TooLong(_))
        ));
    }

    #[test]
    fn quantiles_are_of_the_samples() {
        let samples: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&samples, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&samples, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&samples, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
        assert!((millis(Duration::from_micros(1234)) - 1.23).abs() < f64::EPSILON);
    }
}
