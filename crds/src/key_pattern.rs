//! Which keys a policy allows: `account/*`, `orders/**`.

use std::fmt;
use std::str::FromStr;

use crate::address::is_match;

/// Longest pattern and longest key, in bytes.
const MAX_LENGTH: usize = 253;

/// One segment is `*`, or characters of a key with single stars between them. `**` may only be the last.
pub(crate) const GRAMMAR: &str = "^([*][*]|([*]|[*]?[A-Za-z0-9._:@-]([*]?[A-Za-z0-9._:@-])*[*]?)(/([*]|[*]?[A-Za-z0-9._:@-]([*]?[A-Za-z0-9._:@-])*[*]?))*(/[*][*])?)$";
/// A segment that no key has.
pub(crate) const DOT_SEGMENT: &str = "(^|/)[.][.]?(/|$)";

/// A pattern over keys.
///
/// Segments are parted by `/`. `*` stands for any characters, also none, within one segment; a segment that is only `*`
/// therefore stands for any one segment, since no key has an empty one. `**` stands for one or more whole segments and
/// may only be the last segment. Everything else stands for itself; case counts.
///
/// Matching takes time in proportion to key times pattern at worst, and no memory.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyPattern {
    text: Box<str>,
}

/// Why a text is not a key pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidKeyPattern {
    /// Empty or longer than a key can be.
    #[error("a key pattern has 1 to 253 characters")]
    Length,
    /// A character outside the list, an empty segment, `**` before the end or beside something.
    #[error(
        "a key pattern has segments of letters, digits, ._:@- and single *, parted by one /, with ** only as the last segment"
    )]
    Grammar,
    /// A segment `.` or `..`.
    #[error("a key pattern has no segment . or .., since no key has one")]
    DotSegment,
}

impl KeyPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`InvalidKeyPattern`]; the same verdict as the API server's on `spec.keys.allow`.
    pub fn try_new(text: &str) -> Result<Self, InvalidKeyPattern> {
        if text.is_empty() || text.len() > MAX_LENGTH {
            Err(InvalidKeyPattern::Length)
        } else if !is_match(GRAMMAR, text) {
            Err(InvalidKeyPattern::Grammar)
        } else if is_match(DOT_SEGMENT, text) {
            Err(InvalidKeyPattern::DotSegment)
        } else {
            Ok(Self { text: text.into() })
        }
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Does it take this key? The key is one that the API let through: no empty segment.
    pub fn matches(&self, key: &str) -> bool {
        let mut segments = key.split('/');
        for pattern in self.text.split('/') {
            let Some(segment) = segments.next() else {
                return false;
            };
            if pattern == "**" {
                return true;
            }
            if !segment_matches(pattern.as_bytes(), segment.as_bytes()) {
                return false;
            }
        }
        segments.next().is_none()
    }
}

/// The classic greedy match with one point to go back to: the last star seen takes one byte more each time.
fn segment_matches(pattern: &[u8], segment: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while s < segment.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p, s));
            p += 1;
        } else if p < pattern.len() && pattern[p] == segment[s] {
            p += 1;
            s += 1;
        } else if let Some((star, taken)) = retry {
            retry = Some((star, taken + 1));
            p = star + 1;
            s = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl FromStr for KeyPattern {
    type Err = InvalidKeyPattern;

    fn from_str(text: &str) -> Result<Self, InvalidKeyPattern> {
        Self::try_new(text)
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> KeyPattern {
        KeyPattern::try_new(text).unwrap()
    }

    #[test]
    fn stars_stay_in_their_segment() {
        for (text, takes, refuses) in [
            (
                "account/*",
                vec!["account/42", "account/x.y"],
                vec!["account", "account/42/card", "accounts/42", "Account/42"],
            ),
            (
                "account/**",
                vec!["account/42", "account/42/card"],
                vec!["account", "accounts/42"],
            ),
            ("**", vec!["a", "a/b/c"], vec![]),
            ("*", vec!["a"], vec!["a/b"]),
            ("*/b", vec!["a/b"], vec!["b", "a/a/b"]),
            ("a*c", vec!["ac", "abc", "abcc"], vec!["a/c", "acd", "bac"]),
            ("*a*b*", vec!["ab", "xaxbx", "aab"], vec!["ba", "a"]),
            (
                "job-*-daily",
                vec!["job-1-daily", "job--daily"],
                vec!["job-daily", "job-1-daily2"],
            ),
            ("plain", vec!["plain"], vec!["plain/x", "plai", "plainer"]),
        ] {
            let pattern = pattern(text);
            for key in takes {
                assert!(pattern.matches(key), "{text} takes {key}");
            }
            for key in refuses {
                assert!(!pattern.matches(key), "{text} refuses {key}");
            }
        }
    }

    #[test]
    fn refuses_what_cannot_compile() {
        use InvalidKeyPattern::*;
        let long = "a".repeat(254);
        for (text, error) in [
            ("", Length),
            (long.as_str(), Length),
            ("/", Grammar),
            ("a/", Grammar),
            ("/a", Grammar),
            ("a//b", Grammar),
            ("**/a", Grammar),
            ("a/**/b", Grammar),
            ("a**", Grammar),
            ("***", Grammar),
            ("a b", Grammar),
            ("a[0-9]", Grammar),
            ("a{b,c}", Grammar),
            ("(", Grammar),
            ("ä", Grammar),
            ("a\n", Grammar),
            ("..", DotSegment),
            ("a/./b", DotSegment),
            ("a/..", DotSegment),
        ] {
            assert_eq!(KeyPattern::try_new(text), Err(error), "{text:?}");
        }
    }

    /// The same meaning, said as a regular expression: the reference to compare with.
    fn reference(text: &str) -> regex_lite::Regex {
        let (head, rest) = match text.strip_suffix("**") {
            Some(head) => (head, ".+"),
            None => (text, ""),
        };
        let head = head.replace('.', "[.]").replace('*', "[^/]*");
        regex_lite::Regex::new(&format!("^{head}{rest}$")).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn matches_as_the_reference_does(text in "[ab*]{1,4}(/[ab.*]{1,4}){0,2}(/[*][*])?", key in "[ab.]{1,5}(/[ab]{1,4}){0,3}") {
            if let Ok(pattern) = KeyPattern::try_new(&text) {
                prop_assert_eq!(pattern.matches(&key), reference(&text).is_match(&key));
            }
        }

        #[test]
        fn every_key_matches_itself(key in "[A-Za-z0-9_:@-]{1,20}(/[A-Za-z0-9_:@-]{1,20}){0,4}") {
            prop_assert!(pattern(&key).matches(&key));
        }

        #[test]
        fn never_panics(text in ".{0,30}", key in ".{0,30}") {
            if let Ok(pattern) = KeyPattern::try_new(&text) {
                pattern.matches(&key);
            }
        }
    }
}
