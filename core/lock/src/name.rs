//! What things are called: keys, policies, owners, holds.

use std::{fmt, sync::Arc};

/// What is locked inside a policy: 1 to 253 bytes of `[A-Za-z0-9._:/@-]`, whose `/`-separated segments are none of
/// empty, `.` and `..`.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why a text is not a [`Key`], a [`PolicyName`], a [`Namespace`] or an [`Owner`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidName {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("it has {length} bytes, at most {most} are allowed")]
    TooLong {
        /// How many bytes there are.
        length: usize,
        /// How many there may be.
        most: usize,
    },
    /// A byte that is not in the list.
    #[error("the byte at offset {offset} is none of {allowed}")]
    Byte {
        /// Where, from 0.
        offset: usize,
        /// What may be there.
        allowed: &'static str,
    },
    /// A segment of a key that is empty, `.` or `..`.
    #[error("the segment at offset {offset} is empty, \".\" or \"..\"")]
    Segment {
        /// Where the segment starts, from 0.
        offset: usize,
    },
}

impl Key {
    /// The most bytes a key has.
    pub const MAX_LEN: usize = 253;

    /// A key.
    ///
    /// # Errors
    /// [`InvalidName`] with the first fault from the left.
    pub fn try_new(key: &str) -> Result<Self, InvalidName> {
        check_length(key, Self::MAX_LEN)?;
        check_bytes(key, "[A-Za-z0-9._:/@-]", |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'/' | b'@' | b'-')
        })?;
        let mut offset = 0;
        for segment in key.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err(InvalidName::Segment { offset });
            }
            offset += segment.len() + 1;
        }
        Ok(Self(key.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_length(name: &str, most: usize) -> Result<(), InvalidName> {
    match name.len() {
        0 => Err(InvalidName::Empty),
        length if length > most => Err(InvalidName::TooLong { length, most }),
        _ => Ok(()),
    }
}

fn check_bytes(
    name: &str,
    allowed: &'static str,
    is_allowed: impl Fn(u8) -> bool,
) -> Result<(), InvalidName> {
    match name.bytes().position(|byte| !is_allowed(byte)) {
        Some(offset) => Err(InvalidName::Byte { offset, allowed }),
        None => Ok(()),
    }
}

/// The name of a `LockPolicy`: a DNS label prefix as Kubernetes allows it, 1 to 253 bytes of `[a-z0-9.-]` that start
/// and end with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Arc<str>);

impl PolicyName {
    /// A policy's name.
    ///
    /// # Errors
    /// [`InvalidName`] with the first fault from the left.
    pub fn try_new(name: &str) -> Result<Self, InvalidName> {
        kubernetes_name(name, 253, true).map(|()| Self(name.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The namespace that a policy lives in: a DNS label, 1 to 63 bytes of `[a-z0-9-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// A namespace.
    ///
    /// # Errors
    /// [`InvalidName`] with the first fault from the left.
    pub fn try_new(name: &str) -> Result<Self, InvalidName> {
        kubernetes_name(name, 63, false).map(|()| Self(name.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn kubernetes_name(name: &str, most: usize, dots: bool) -> Result<(), InvalidName> {
    let allowed = if dots { "[a-z0-9.-]" } else { "[a-z0-9-]" };
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    check_length(name, most)?;
    check_bytes(name, allowed, |byte| {
        is_alphanumeric(byte) || byte == b'-' || (dots && byte == b'.')
    })?;
    let bytes = name.as_bytes();
    for offset in [0, bytes.len() - 1] {
        if !is_alphanumeric(bytes[offset]) {
            return Err(InvalidName::Byte {
                offset,
                allowed: "[a-z0-9] at the start and the end",
            });
        }
    }
    Ok(())
}

/// The display name of a holder, chosen by the caller: 1 to 128 bytes of printable ASCII. It names, it does not
/// prove: nothing is decided on it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The most bytes an owner has.
    pub const MAX_LEN: usize = 128;

    /// An owner.
    ///
    /// # Errors
    /// [`InvalidName`] with the first fault from the left.
    pub fn try_new(name: &str) -> Result<Self, InvalidName> {
        check_length(name, Self::MAX_LEN)?;
        check_bytes(name, "the printable ASCII characters", |byte| {
            matches!(byte, b' '..=b'~')
        })?;
        Ok(Self(name.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}
shown_as_text!(Key, PolicyName, Namespace, Owner);

/// What a backend compares to tell one attempt to hold a key from every other: unique among all sidecars and all
/// times. An attempt that is repeated because its answer did not arrive keeps its id, so that the outcome can be read
/// back; a new attempt never reuses one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(u128);

impl HoldId {
    /// An id from its 128 bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes the [`HoldId`]s of one slot: 64 random bits of the process, 32 bits that count its slots, 32 bits that count
/// the slot's attempts.
#[derive(Clone, Debug)]
pub struct HoldIds {
    process: u64,
    slot: u32,
    attempts: u32,
}

impl HoldIds {
    /// Ids of the slot `slot` of the process that drew `process` from the system's random source when it started. A
    /// slot that is made anew for the same key needs a `slot` of its own.
    pub const fn new(process: u64, slot: u32) -> Self {
        Self {
            process,
            slot,
            attempts: 0,
        }
    }

    /// The next id.
    pub fn next_id(&mut self) -> HoldId {
        self.attempts = self.attempts.wrapping_add(1);
        HoldId(
            u128::from(self.process) << 64
                | u128::from(self.slot) << 32
                | u128::from(self.attempts),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_allowed_bytes_are_taken_as_they_are() {
        let longest = "k".repeat(Key::MAX_LEN);
        for key in [
            "a",
            "account/42",
            "A.b_c:d/e@f-g",
            "...",
            "a/.b",
            "1/2/3",
            longest.as_str(),
        ] {
            assert_eq!(Key::try_new(key).unwrap().as_str(), key);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_place() {
        let long = "k".repeat(Key::MAX_LEN + 1);
        let table = [
            ("", "empty"),
            (long.as_str(), "254 bytes"),
            ("a b", "offset 1"),
            ("a*", "offset 1"),
            ("{a}", "offset 0"),
            ("é", "offset 0"),
            ("a\0", "offset 1"),
            ("a\r\n", "offset 1"),
            ("a/../b", "offset 2"),
            ("./a", "offset 0"),
            ("a//b", "offset 2"),
            ("/a", "offset 0"),
            ("a/", "offset 2"),
        ];
        for (key, expected) in table {
            let error = Key::try_new(key).unwrap_err().to_string();
            assert!(error.contains(expected), "{key:?}: {error}");
        }
    }

    #[test]
    fn names_of_objects_are_those_of_kubernetes() {
        for name in ["a", "payments", "a-b.c", "0"] {
            assert!(PolicyName::try_new(name).is_ok(), "{name}");
        }
        for name in ["", "A", "-a", "a-", ".a", "a_b", "a/b"] {
            assert!(PolicyName::try_new(name).is_err(), "{name}");
            assert!(Namespace::try_new(name).is_err(), "{name}");
        }
        assert!(
            Namespace::try_new("a.b").is_err(),
            "a namespace is one label"
        );
    }

    #[test]
    fn an_owner_is_printable() {
        assert!(Owner::try_new("worker 1 (blue)").is_ok());
        for wrong in ["", "a\nb", "\u{7f}", "ö", &"o".repeat(129)] {
            assert!(Owner::try_new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ids_of_attempts_are_unique_and_can_be_read_back() {
        let mut ids = HoldIds::new(0xfeed, 3);
        let (one, two) = (ids.next_id(), ids.next_id());
        assert_ne!(one, two);
        assert_ne!(one, HoldIds::new(0xfeed, 4).next_id());
        assert_ne!(one, HoldIds::new(0xbeef, 3).next_id());
        assert_eq!(HoldId::parse(&one.to_string()), Some(one));
        assert_eq!(HoldId::parse("12"), None);
        assert_eq!(HoldId::parse(&"g".repeat(32)), None);
    }
}
