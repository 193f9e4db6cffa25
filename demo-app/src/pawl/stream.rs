//! A lock that lives as long as its connection, and what becomes of it (`text/event-stream`).

use hyper::StatusCode;
use serde_json::Value;

use super::PawlError;
use super::error::problem;
use crate::wire;

/// The longest event that is read, in bytes.
const EVENT_LIMIT: usize = 64 << 10;

/// One event of a lock's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `queued`, `granted`, `renewed`, `uncertain`, `lost`.
    pub name: String,
    /// What it says; null when it says nothing.
    pub data: Value,
}

/// A place in the queue, and then the lock. Dropping it gives up either.
#[derive(Debug)]
pub struct Stream {
    answer: wire::Stream,
    unread: Vec<u8>,
}

impl Stream {
    /// Takes the answer to an acquire; a refusal becomes its error.
    pub(super) async fn of(mut answer: wire::Stream) -> Result<Self, PawlError> {
        if answer.status() == StatusCode::OK {
            return Ok(Self {
                answer,
                unread: Vec::new(),
            });
        }
        let mut body = Vec::new();
        while let Some(bytes) = answer.next().await {
            body.extend_from_slice(&bytes);
            if body.len() > EVENT_LIMIT {
                break;
            }
        }
        Err(problem(
            answer.status(),
            &serde_json::from_slice(&body).unwrap_or_default(),
        ))
    }

    /// The next event; `None` when the stream ended, and with it the lock. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((whole, rest)) = split_event(&self.unread) {
                let event = parse(&self.unread[..whole]);
                self.unread.drain(..rest);
                if event.is_some() {
                    return event;
                }
            }
            if self.unread.len() > EVENT_LIMIT {
                return None;
            }
            let bytes = self.answer.next().await?;
            self.unread.extend_from_slice(&bytes);
        }
    }

    /// Waits for the grant and returns its data; `None` when the stream ended without one.
    pub async fn granted(&mut self) -> Option<Value> {
        loop {
            let event = self.next().await?;
            match event.name.as_str() {
                "granted" => return Some(event.data),
                "lost" => return None,
                _ => {}
            }
        }
    }
}

/// Where the first event ends and where the next one begins: events are parted by an empty line.
fn split_event(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = |gap: &[u8]| {
        bytes
            .windows(gap.len())
            .position(|w| w == gap)
            .map(|i| (i, i + gap.len()))
    };
    match (at(b"\n\n"), at(b"\r\n\r\n")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Reads one event; `None` for a comment, which only keeps the connection warm.
fn parse(bytes: &[u8]) -> Option<Event> {
    let text = String::from_utf8_lossy(bytes);
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|v| v.strip_prefix(' ').unwrap_or(v))
    };
    let name = field("event")?.to_owned();
    let data = field("data")
        .and_then(|d| serde_json::from_str(d).ok())
        .unwrap_or_default();
    Some(Event { name, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parted_by_an_empty_line() {
        let bytes = b"event: queued\ndata: {\"position\":2}\n\nevent:gran";
        assert_eq!(split_event(bytes), Some((34, 36)));
        assert_eq!(split_event(b"event: queued\n"), None);
        assert_eq!(split_event(b"a\r\n\r\nb"), Some((1, 5)));
    }

    #[test]
    fn an_event_has_a_name_and_data() {
        let event = parse(b"event: granted\nid: 7\ndata: {\"fencingToken\":9}").unwrap();
        assert_eq!(event.name, "granted");
        assert_eq!(event.data["fencingToken"], 9);
        assert_eq!(parse(b": keep-alive"), None);
        assert_eq!(parse(b"event:lost").unwrap().data, Value::Null);
    }
}
