//! Reading what scripts answer.

use std::time::Duration;

use pawl_lock::{
    BackendError, BackendToken, Owner,
    backend::{Acquired, Busy, Category, Granted, Holder, Outcome, Wanted},
    lease::Mode,
};
use redis::Value;

/// An answer that is not understood.
pub(super) fn not_understood() -> BackendError {
    BackendError::new(
        Category::Protocol,
        Outcome::Unknown,
        "the Redis server answered something that is not understood",
    )
}

/// The items of an array.
pub(super) fn items(value: Value) -> Result<Vec<Value>, BackendError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(not_understood()),
    }
}

/// The item at `index` as a number; -1 if it is not there or none.
pub(super) fn number(items: &[Value], index: usize) -> i64 {
    match items.get(index) {
        Some(Value::Int(number)) => *number,
        Some(Value::BulkString(text)) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(-1),
        _ => -1,
    }
}

/// The item at `index` as a text; nothing if it is not there or none.
fn text(items: &[Value], index: usize) -> Option<&str> {
    match items.get(index) {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).ok(),
        Some(Value::SimpleString(text)) => Some(text),
        _ => None,
    }
}

/// The item at `index` as milliseconds; nothing if it is not there or negative.
fn millis(items: &[Value], index: usize) -> Option<Duration> {
    u64::try_from(number(items, index))
        .ok()
        .map(Duration::from_millis)
}

fn mode(items: &[Value], index: usize) -> Option<Mode> {
    match text(items, index)? {
        "x" => Some(Mode::Exclusive),
        "s" => Some(Mode::Shared),
        _ => None,
    }
}

fn token(items: &[Value], index: usize) -> Option<BackendToken> {
    let number = u64::try_from(number(items, index)).ok()?;
    BackendToken::try_new(number).ok()
}

/// The mode and age at `index` and after it.
pub(super) fn wanted(items: &[Value], index: usize) -> Option<Wanted> {
    Some(Wanted {
        mode: mode(items, index)?,
        age: millis(items, index + 1)?,
    })
}

/// The holder whose mode, token, `held_for`, `expires_in` and owner start at `index`.
pub(super) fn holder(items: &[Value], index: usize) -> Option<Holder> {
    Some(Holder {
        mode: mode(items, index)?,
        token: token(items, index + 1),
        held_for: millis(items, index + 2),
        expires_in: millis(items, index + 3),
        owner: Owner::try_new(text(items, index + 4)?).ok()?,
    })
}

/// The answer to an attempt.
pub(super) fn acquired(value: Value) -> Result<Acquired, BackendError> {
    let items = items(value)?;
    match number(&items, 0) {
        1 => Ok(Acquired::Granted(Granted {
            token: token(&items, 1).ok_or_else(not_understood)?,
            session: 0,
            wanted: wanted(&items, 2),
        })),
        0 => Ok(Acquired::Busy(Busy {
            ahead: u32::try_from(number(&items, 1)).ok(),
            retry_in: millis(&items, 2).filter(|retry| !retry.is_zero()),
            holder: holder(&items, 3),
        })),
        _ => Err(not_understood()),
    }
}
