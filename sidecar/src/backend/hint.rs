//! The hints that servers pass between sidecars: `T <key>` (turn) and `W <x|s> <age in ms> <key>` (wanted).

use std::time::Duration;

use pawl_lock::{
    Key,
    backend::{BackendEvent, Wanted},
    lease::Mode,
};

/// What a hint says; nothing if it says nothing that is understood. A message of nobody's is no reason to fail.
pub(super) fn parse(message: &[u8]) -> Option<BackendEvent> {
    let message = std::str::from_utf8(message).ok()?;
    let (kind, rest) = message.split_once(' ')?;
    match kind {
        "T" => Some(BackendEvent::Turn {
            key: Key::try_new(rest).ok()?,
        }),
        "W" => {
            let (mode, rest) = rest.split_once(' ')?;
            let (age, key) = rest.split_once(' ')?;
            let mode = match mode {
                "x" => Mode::Exclusive,
                "s" => Mode::Shared,
                _ => return None,
            };
            Some(BackendEvent::Wanted {
                key: Key::try_new(key).ok()?,
                wanted: Wanted {
                    mode,
                    age: Duration::from_millis(age.parse().ok()?),
                },
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_and_noise_is_not() {
        let key = Key::try_new("a/b:c").unwrap();
        assert_eq!(
            parse(b"T a/b:c"),
            Some(BackendEvent::Turn { key: key.clone() })
        );
        let wanted = Wanted {
            mode: Mode::Shared,
            age: Duration::from_millis(250),
        };
        assert_eq!(
            parse(b"W s 250 a/b:c"),
            Some(BackendEvent::Wanted { key, wanted })
        );
        for noise in [
            "",
            "T",
            "T ",
            "T a b",
            "X a",
            "W s a",
            "W y 1 a",
            "W s -1 a",
            "W s 1 a//b",
        ] {
            assert_eq!(parse(noise.as_bytes()), None, "{noise:?}");
        }
        assert_eq!(parse(b"T \xff"), None);
    }
}
