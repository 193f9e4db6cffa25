//! What a server answers that says it is Redis.

use pawl_lock::{
    BackendToken, FencingToken,
    backend::{Acquired, Category, FenceVerdict, Outcome},
    quorum::{Quorum, Verdict},
};
use pawl_sidecar::backend::{
    redis::reply,
    redlock::tally::{Tally, held},
};
use redis::Value;

/// Where the answer of one node ends.
const END: &[u8] = b"\n--\n";
const NODES: usize = 3;

/// The answers of up to three nodes. Only an array that begins with 1 is a grant, and only a majority of them is one of
/// Redlock; what is not understood is unknown and not refused.
pub fn reply(input: &[u8]) {
    let quorum = Quorum::try_new(NODES).unwrap();
    let mut tally = Tally::new(quorum);
    let mut shown = Vec::new();
    let mut grants = 0;
    for (node, bytes) in split(input).into_iter().enumerate() {
        let Ok(value) = redis::parse_redis_value(bytes) else {
            continue;
        };
        alone(&value);
        let answer = reply::acquired(value.clone());
        grants += usize::from(matches!(answer, Ok(Acquired::Granted(_))));
        tally.note(node, answer);
        let inspected = reply::inspected(value);
        shown.extend(inspected.into_iter().flat_map(|seen| seen.holders));
    }
    // A node shows a holder once for each of its holds, and any of them may lie: no more holders than were shown.
    assert!(held(quorum, shown.clone()).len() <= shown.len());
    let open = tally.open();
    assert_eq!(tally.close(), open);
    assert_eq!(tally.errors.len() + tally.answered(), NODES);
    match tally.verdict() {
        Verdict::Open => panic!("all nodes are heard, or silent"),
        Verdict::Granted(token) | Verdict::Raise(token) => {
            assert!(quorum.is_majority(grants));
            assert!(tally.granted.iter().any(|(_, given)| *given == token));
        }
        Verdict::Busy => assert!(quorum.is_majority(tally.answered())),
        Verdict::Unreachable => assert!(!quorum.is_majority(tally.answered())),
    }
    assert_eq!(tally.busy().ahead, None);
}

fn split(mut input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while parts.len() + 1 < NODES
        && let Some(at) = input.windows(END.len()).position(|bytes| bytes == END)
    {
        parts.push(&input[..at]);
        input = &input[at + END.len()..];
    }
    parts.push(input);
    parts
}

/// One answer, read as that of each call.
fn alone(value: &Value) {
    let says_yes = matches!(value, Value::Array(items) if is_one(items.first()));
    match reply::acquired(value.clone()) {
        Ok(Acquired::Granted(granted)) => {
            assert!(says_yes);
            assert!((1..=BackendToken::MAX.get()).contains(&granted.token.get()));
        }
        Ok(Acquired::Busy(busy)) => {
            assert!(!says_yes);
            assert_ne!(busy.retry_in, Some(std::time::Duration::ZERO));
        }
        Err(error) => {
            assert_eq!(error.category(), Category::Protocol);
            assert_eq!(error.outcome(), Outcome::Unknown);
        }
    }
    if let Ok(renewed) = reply::renewed(value.clone()) {
        assert_eq!(says_yes, renewed != pawl_lock::backend::Renewed::NotOwner);
    }
    for has_next in [false, true] {
        if let Ok(released) = reply::released(value.clone(), has_next) {
            assert_eq!(released.next.is_some(), has_next);
            assert_eq!(released.was_owner, says_yes);
        }
    }
    assert_eq!(reply::abandoned(value).is_ok(), *value == Value::Int(1));
    if let Ok(Some(raised)) = reply::raised(value) {
        assert!(raised.get() > 0);
    }
    if let Ok(FenceVerdict::Stale { highest }) = reply::fenced(value.clone()) {
        assert!(FencingToken::try_new(highest.get()).is_ok());
    }
    let _ = reply::probed(value.clone());
}

fn is_one(item: Option<&Value>) -> bool {
    match item {
        Some(Value::Int(number)) => *number == 1,
        Some(Value::BulkString(text)) => {
            std::str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(1))
        }
        _ => false,
    }
}
