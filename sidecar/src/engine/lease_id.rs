//! The secret handle of a lease.

use std::fmt;

use rand::Rng;

/// 128 random bits that name a lease to its owner. Who has them may renew and release it, so they are never logged
/// whole and never a label: `Debug` shows the first four digits, and only [`LeaseId::to_text`] gives them all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId([u8; 16]);

impl LeaseId {
    /// How many characters the text has.
    pub const TEXT_LEN: usize = 32;

    /// A new id from the thread's cryptographic generator.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Reads the 32 lower-case hexadecimal digits that [`LeaseId::to_text`] wrote; nothing for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The whole secret, for its owner's eyes only: 32 lower-case hexadecimal digits.
    pub fn to_text(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(Self::TEXT_LEN);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back_and_anything_else_is_not() {
        let id = LeaseId::random();
        let text = id.to_text();
        assert_eq!(LeaseId::parse(&text), Some(id));
        assert_ne!(LeaseId::random(), id);
        for wrong in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.to_uppercase().replace(char::is_numeric, "A"),
        ] {
            assert_eq!(LeaseId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(
            LeaseId::parse("éééééééééééééééé"),
            None,
            "32 bytes, but no digits"
        );
    }

    #[test]
    fn debug_shows_four_digits_at_most() {
        let id = LeaseId::random();
        assert_eq!(format!("{id:?}"), format!("{}…", &id.to_text()[..4]));
    }
}
