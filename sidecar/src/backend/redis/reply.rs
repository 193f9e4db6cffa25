//! Reading what scripts answer: functions of a RESP value, for whatever a server may send.
//!
//! What is not understood is an error with an unknown outcome, and never a grant.

use std::time::Duration;

use pawl_lock::{
    BackendError, BackendToken, FencingToken, Owner,
    backend::{
        Abandoned, Acquired, Busy, Category, FenceVerdict, Granted, Holder, Inspection, Outcome,
        Released, Renewed, Wanted,
    },
    lease::Mode,
};
use redis::Value;

/// What a probe found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probed {
    /// The server's clock, in milliseconds since 1970.
    pub clock_millis: u64,
    /// Whether scripts may publish.
    pub can_tell: bool,
}

/// An answer that is not understood.
pub(super) fn not_understood() -> BackendError {
    BackendError::new(
        Category::Protocol,
        Outcome::Unknown,
        "the Redis server answered something that is not understood",
    )
}

/// The items of an array.
fn items(value: Value) -> Result<Vec<Value>, BackendError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(not_understood()),
    }
}

/// The item at `index` as a number; -1 if it is not there or none.
fn number(items: &[Value], index: usize) -> i64 {
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
fn wanted(items: &[Value], index: usize) -> Option<Wanted> {
    Some(Wanted {
        mode: mode(items, index)?,
        age: millis(items, index + 1)?,
    })
}

/// The holder whose mode, token, `held_for`, `expires_in` and owner start at `index`.
fn holder(items: &[Value], index: usize) -> Option<Holder> {
    Some(Holder {
        mode: mode(items, index)?,
        token: token(items, index + 1),
        held_for: millis(items, index + 2),
        expires_in: millis(items, index + 3),
        owner: Owner::try_new(text(items, index + 4)?).ok()?,
    })
}

/// The answer to an attempt.
///
/// # Errors
/// [`Category::Protocol`], as of every function here.
pub fn acquired(value: Value) -> Result<Acquired, BackendError> {
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

/// The answer to a renewal.
///
/// # Errors
/// [`Category::Protocol`].
pub fn renewed(value: Value) -> Result<Renewed, BackendError> {
    let items = items(value)?;
    match number(&items, 0) {
        1 => Ok(Renewed::Extended {
            wanted: wanted(&items, 1),
        }),
        0 => Ok(Renewed::NotOwner),
        _ => Err(not_understood()),
    }
}

/// The answer to a release, with that to the attempt after it if there is to be one.
///
/// # Errors
/// [`Category::Protocol`].
pub fn released(value: Value, has_next: bool) -> Result<Released, BackendError> {
    let mut items = items(value)?;
    if items.len() != 2 {
        return Err(not_understood());
    }
    let was_owner = number(&items, 0) == 1;
    let next = has_next.then(|| acquired(items.swap_remove(1)));
    Ok(Released {
        was_owner,
        next: next.transpose()?,
    })
}

/// The answer to an abandonment.
///
/// # Errors
/// [`Category::Protocol`].
pub fn abandoned(value: &Value) -> Result<Abandoned, BackendError> {
    match value {
        Value::Int(1) => Ok(Abandoned::Settled),
        _ => Err(not_understood()),
    }
}

/// The number that a hold has after it was asked to raise it; nothing if it is not there.
///
/// # Errors
/// [`Category::Protocol`].
pub fn raised(value: &Value) -> Result<Option<BackendToken>, BackendError> {
    match value {
        Value::Int(0) => Ok(None),
        Value::Int(number) => u64::try_from(*number)
            .ok()
            .and_then(|number| BackendToken::try_new(number).ok())
            .map(Some)
            .ok_or_else(not_understood),
        _ => Err(not_understood()),
    }
}

/// Who holds and how many wait.
///
/// # Errors
/// [`Category::Protocol`].
pub fn inspected(value: Value) -> Result<Inspection, BackendError> {
    let items = items(value)?;
    let waiters = u32::try_from(number(&items, 0)).map_err(|_| not_understood())?;
    let mut holders = Vec::with_capacity(items.len() - 1);
    for shown in items.into_iter().skip(1) {
        holders.extend(holder(&self::items(shown)?, 0));
    }
    Ok(Inspection { holders, waiters })
}

/// The answer of a fence.
///
/// # Errors
/// [`Category::Protocol`].
pub fn fenced(value: Value) -> Result<FenceVerdict, BackendError> {
    match u64::try_from(number(&[value], 0)) {
        Ok(0) => Ok(FenceVerdict::Newest),
        Ok(highest) => FencingToken::try_new(highest)
            .map(|highest| FenceVerdict::Stale { highest })
            .map_err(|_| not_understood()),
        Err(_) => Err(not_understood()),
    }
}

/// The answer of a probe.
///
/// # Errors
/// [`Category::Protocol`].
pub fn probed(value: Value) -> Result<Probed, BackendError> {
    let items = items(value)?;
    Ok(Probed {
        clock_millis: u64::try_from(number(&items, 0)).map_err(|_| not_understood())?,
        can_tell: number(&items, 1) == 1,
    })
}
