//! The bytes of a connection to the lock API.

use pawl_lock::Key;
use pawl_sidecar::api::{
    http1::{
        chunked::Chunked,
        guard::{Framing, Head, Hosts, MAX_BODY, MAX_HEAD, MAX_TARGET, Reject, Scanner, inspect},
    },
    json,
    path::{self, Route},
};

const OURS: Hosts = Hosts::Loopback { port: 8080 };

/// A request is the same in whatever pieces it comes; what is taken is within all bounds, and what is taken of a foreign host
/// is taken of any.
pub fn request(input: &[u8]) {
    let whole = head_end(input, input.len());
    for piece in [1, 7] {
        assert_eq!(head_end(input, piece), whole, "in pieces of {piece}");
    }
    let Ok(Some(end)) = whole else {
        return;
    };
    assert!(end <= MAX_HEAD);
    let (head, rest) = input.split_at(end);
    assert!(head.ends_with(b"\r\n\r\n"));
    let anywhere = inspect(head, Hosts::Any);
    let Ok(head) = inspect(head, OURS) else {
        return;
    };
    assert_eq!(anywhere.as_ref(), Ok(&head));
    taken(&head);
    if let Some(body) = body(head.body, rest) {
        fields(body.as_slice());
    }
}

/// Where the head ends if it comes in such pieces.
fn head_end(input: &[u8], piece: usize) -> Result<Option<usize>, Reject> {
    let mut scanner = Scanner::default();
    let mut seen = 0;
    while seen < input.len() {
        seen = input.len().min(seen + piece);
        match scanner.scan(&input[..seen]) {
            Ok(None) => {}
            ended => return ended,
        }
    }
    Ok(None)
}

/// Nothing of a head that was taken can end a line or a field somewhere else, or is longer than it may be.
fn taken(head: &Head<'_>) {
    assert!(head.path.starts_with('/'));
    let target = head.path.len() + head.query.map_or(0, |query| query.len() + 1);
    assert!(target <= MAX_TARGET);
    for text in [head.method, head.path, head.query.unwrap_or_default()] {
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    }
    let fields = &head.fields;
    let values = [
        fields.content_type,
        fields.accept,
        fields.authorization,
        fields.idempotency_key,
        fields.traceparent,
        fields.tracestate,
    ];
    for value in values.into_iter().flatten() {
        let is_plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        assert!(value.iter().all(is_plain), "{value:?}");
    }
    if let Framing::Length(length) = head.body {
        assert!(length <= MAX_BODY);
    }
    if let Some(Route::Lock { key, .. } | Route::Fence { key, .. }) = Route::parse(head.path)
        && let Ok(key) = path::key(key)
    {
        assert_eq!(Key::try_new(key.as_str()), Ok(key));
    }
}

fn body(framing: Framing, rest: &[u8]) -> Option<Vec<u8>> {
    let Framing::Length(length) = framing else {
        let whole = unchunked(rest, rest.len().max(1));
        for piece in [1, 5] {
            assert_eq!(unchunked(rest, piece), whole, "in pieces of {piece}");
        }
        let (body, used) = whole.ok()??;
        assert!(used <= rest.len() && body.len() <= MAX_BODY);
        return Some(body);
    };
    rest.get(..length).map(<[u8]>::to_vec)
}

/// The body, and how many bytes of `rest` it took.
fn unchunked(rest: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Reject> {
    let mut chunked = Chunked::default();
    let mut used = 0;
    for part in rest.chunks(piece) {
        used += chunked.feed(part)?;
        if let Some(body) = chunked.finish() {
            return Ok(Some((body, used)));
        }
    }
    Ok(None)
}

/// Each field has one reading at the most, and refusals are short.
fn fields(body: &[u8]) {
    const KNOWN: &[&str] = &["ttl", "wait", "owner", "keys", "token"];
    let read = match json::fields(body, KNOWN) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.to_string().len() < 1024, "{error}");
            return;
        }
    };
    assert!(read.len() <= KNOWN.len());
    for (name, given) in &read {
        assert!(KNOWN.contains(&name.as_ref()));
        let duration = given.duration("ttl", "\"10s\"").is_ok();
        let text = given.text("owner", "\"me\"").is_ok();
        let whole = given.whole("token", 1, 1 << 53, "7");
        let texts = given.texts("keys", "[\"a\"]").map(Iterator::count).is_ok();
        assert!(text || !duration);
        assert!(usize::from(text) + usize::from(whole.is_ok()) + usize::from(texts) <= 1);
        assert!(whole.is_err() || whole.is_ok_and(|whole| (1..=1 << 53).contains(&whole)));
    }
}
