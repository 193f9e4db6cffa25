//! Gateway-API duration strings (GEP-2257): `250ms`, `10s`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const MAX_COMPONENTS: usize = 4;
const MAX_DIGITS: usize = 5;

/// A length of time, in whole milliseconds, written as a Gateway-API duration string.
///
/// One to four components, each of one to five digits and a unit of `h`, `m`, `s` or `ms`; components add up,
/// as in Go. No sign, no fraction, no space, no other unit. Range: `0s` to `99999h59m59s999ms`.
/// Source: <https://gateway-api.sigs.k8s.io/geps/gep-2257/>.
///
/// It is written back in its shortest ordered form (`90s` becomes `1m30s`), which reads as the same value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ApiDuration {
    millis: u64,
}

/// Why a text is not a duration. The texts say what is wrong and never repeat the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidDuration {
    /// Nothing there.
    #[error("a duration is empty; write for example 250ms, 10s or 1h30m")]
    Empty,
    /// A component starts with something that is no digit.
    #[error(
        "a duration has digits before each unit, without sign, point or space, for example 1h30m"
    )]
    NoDigits,
    /// Six digits or more in one component.
    #[error("a duration has at most 5 digits before each unit")]
    TooManyDigits,
    /// A number with nothing after it.
    #[error("a duration needs a unit after each number: h, m, s or ms")]
    NoUnit,
    /// A unit other than the four.
    #[error("a duration has only the units h, m, s and ms")]
    UnknownUnit,
    /// Five components or more.
    #[error("a duration has at most 4 components")]
    TooManyComponents,
    /// More than can be written down again.
    #[error("a duration is at most 99999h59m59s999ms")]
    TooLong,
}

impl ApiDuration {
    /// The longest duration.
    pub const MAX: Self = Self {
        millis: 99_999 * 3_600_000 + 3_599_999,
    };
    /// Nothing.
    pub const ZERO: Self = Self { millis: 0 };
    /// The pattern of the schema; exactly what [`FromStr`] takes, but for the sum's upper bound.
    pub const PATTERN: &'static str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
    /// Longest text that [`Self::PATTERN`] matches, in bytes.
    pub const MAX_LENGTH: usize = 28;

    /// So many milliseconds; more than [`Self::MAX`] becomes [`Self::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.millis {
            Self::MAX
        } else {
            Self { millis }
        }
    }

    /// So many seconds; more than [`Self::MAX`] becomes [`Self::MAX`].
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1_000))
    }

    /// The same in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.millis
    }

    /// The same as the standard library's type.
    pub const fn as_std(self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// Is it `0s`?
    pub const fn is_zero(self) -> bool {
        self.millis == 0
    }
}

impl From<ApiDuration> for Duration {
    fn from(duration: ApiDuration) -> Self {
        duration.as_std()
    }
}

impl FromStr for ApiDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        if text.is_empty() {
            return Err(InvalidDuration::Empty);
        }
        let mut rest = text;
        let mut millis = 0;
        for _ in 0..MAX_COMPONENTS {
            let (component, after) = component(rest)?;
            millis += component;
            rest = after;
            if rest.is_empty() {
                return if millis > Self::MAX.millis {
                    Err(InvalidDuration::TooLong)
                } else {
                    Ok(Self { millis })
                };
            }
        }
        Err(InvalidDuration::TooManyComponents)
    }
}

/// The first component's milliseconds, and what comes after it.
fn component(text: &str) -> Result<(u64, &str), InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(InvalidDuration::NoDigits);
    }
    if digits > MAX_DIGITS {
        return Err(InvalidDuration::TooManyDigits);
    }
    let (number, rest) = text.split_at(digits);
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, rest) = rest.split_at(letters);
    if unit.is_empty() {
        return Err(InvalidDuration::NoUnit);
    }
    let scale = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| scale);
    let scale = scale.ok_or(InvalidDuration::UnknownUnit)?;
    let number: u64 = number.parse().map_err(|_| InvalidDuration::NoDigits)?;
    Ok((number * scale, rest))
}

impl fmt::Display for ApiDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0s");
        }
        let mut left = self.millis;
        for (unit, scale) in UNITS {
            let count = left / scale;
            left %= scale;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ApiDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ApiDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = ApiDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 250ms, 10s or 1h30m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ApiDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for ApiDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": Self::PATTERN,
            "minLength": 2,
            "maxLength": Self::MAX_LENGTH,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_gateway_api_reads() {
        for (text, millis) in [
            ("0s", 0),
            ("0h", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1h30m10s5ms", 5_410_005),
            ("30m1h", 5_400_000),
            ("1s1s", 2_000),
            ("00010s", 10_000),
            ("99999h59m59s999ms", ApiDuration::MAX.as_millis()),
        ] {
            assert_eq!(text.parse(), Ok(ApiDuration { millis }), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        use InvalidDuration::*;
        for (text, error) in [
            ("", Empty),
            ("s", NoDigits),
            ("-1s", NoDigits),
            ("+1s", NoDigits),
            (" 1s", NoDigits),
            ("1.5s", NoUnit),
            ("1 s", NoUnit),
            ("10", NoUnit),
            ("1h30", NoUnit),
            ("١s", NoDigits),
            ("1d", UnknownUnit),
            ("1us", UnknownUnit),
            ("1S", UnknownUnit),
            ("1sm", UnknownUnit),
            ("1s ", NoDigits),
            ("123456s", TooManyDigits),
            ("1h1m1s1ms1ms", TooManyComponents),
            ("99999h60m", TooLong),
        ] {
            assert_eq!(text.parse::<ApiDuration>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn reads_back_from_json_and_names_the_type() {
        let read =
            |json: &str| serde_json::from_str::<ApiDuration>(json).map_err(|e| e.to_string());
        assert_eq!(
            read(r#""90s""#).map(|d| d.to_string()),
            Ok("1m30s".to_owned())
        );
        assert!(
            read("10")
                .unwrap_err()
                .contains("expected a duration such as 250ms")
        );
        assert!(
            read(r#""10x""#)
                .unwrap_err()
                .contains("only the units h, m, s and ms")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(millis in 0..=ApiDuration::MAX.as_millis()) {
            let duration = ApiDuration::from_millis(millis);
            let text = duration.to_string();
            prop_assert_eq!(text.parse(), Ok(duration));
            prop_assert!(text.len() <= ApiDuration::MAX_LENGTH);
        }

        #[test]
        fn reads_exactly_what_the_pattern_matches(text in "[0-9]{0,6}[hms]{0,2}([0-9]{1,6}(h|m|s|ms|d)){0,5}") {
            let pattern = regex_lite::Regex::new(ApiDuration::PATTERN).unwrap();
            let parsed = text.parse::<ApiDuration>();
            prop_assert_eq!(pattern.is_match(&text), parsed.is_ok() || parsed == Err(InvalidDuration::TooLong));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<ApiDuration>();
        }
    }
}
