//! W3C Trace Context, level 1: `traceparent` and `tracestate` (<https://www.w3.org/TR/trace-context/>).

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of a `traceparent` of version 00; later versions may only add to it.
const LENGTH: usize = 55;

/// The longest `tracestate` that is passed on, in bytes; the recommendation asks for at least 512.
const MAX_STATE: usize = 1024;

/// A trace's identifier; shows as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(opentelemetry::TraceId);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The trace that a request says it belongs to.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceContext {
    parent: SpanContext,
}

impl TraceContext {
    /// What the headers say; `None` when they say nothing, or what the recommendation tells to ignore: more than one
    /// `traceparent`, wrong length, upper case, version `ff`, an id of zeros. A bad `tracestate` is left out.
    pub fn extract(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else {
            return None;
        };
        let (trace, span, flags) = parse(parent)?;
        Some(Self {
            parent: SpanContext::new(trace, span, flags, true, state(headers).unwrap_or_default()),
        })
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.parent.trace_id())
    }

    pub(super) fn into_span_context(self) -> SpanContext {
        self.parent
    }
}

impl TraceId {
    /// `None` for the id of zeros, which stands for no trace.
    pub(super) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self(context.trace_id()))
    }
}

/// Writes a span's context to the headers of an outgoing request, in place of what is there.
pub(super) fn inject(context: &SpanContext, headers: &mut HeaderMap) {
    let parent = format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags().to_u8() & 1
    );
    if let Ok(parent) = HeaderValue::try_from(parent) {
        headers.insert(TRACEPARENT, parent);
    }
    headers.remove(TRACESTATE);
    let state = context.trace_state().header();
    if let Ok(state) = HeaderValue::try_from(state)
        && !state.is_empty()
    {
        headers.insert(TRACESTATE, state);
    }
}

/// The trace id of a `traceparent`, if it is one.
pub(super) fn trace_id(parent: &HeaderValue) -> Option<TraceId> {
    parse(parent).map(|(trace, ..)| TraceId(trace))
}

fn parse(parent: &HeaderValue) -> Option<(opentelemetry::TraceId, SpanId, TraceFlags)> {
    let text = parent.as_bytes();
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    let more = text.get(LENGTH..)?;
    let version = u8::try_from(hex(&text[..2])?).ok()?;
    let fits = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.is_empty() || more[0] == b'-',
    };
    let trace = opentelemetry::TraceId::from(hex(&text[3..35])?);
    let span = SpanId::from(u64::try_from(hex(&text[36..52])?).ok()?);
    let flags = TraceFlags::new(u8::try_from(hex(&text[53..LENGTH])?).ok()?) & TraceFlags::SAMPLED;
    let given = trace != opentelemetry::TraceId::INVALID && span != SpanId::INVALID;
    (dashes && fits && given).then_some((trace, span, flags))
}

/// At most 32 lower-case hex digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// All `tracestate` headers, joined in their order as the recommendation tells.
fn state(headers: &HeaderMap) -> Option<TraceState> {
    let mut joined = String::new();
    for header in headers.get_all(TRACESTATE) {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(header.to_str().ok()?);
        if joined.len() > MAX_STATE {
            return None;
        }
    }
    joined.parse().ok()
}

#[cfg(test)]
mod tests {
    use opentelemetry::propagation::TextMapPropagator;
    use opentelemetry::trace::TraceContextExt;
    use opentelemetry_http::HeaderExtractor;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn extract(headers: &[(&'static str, &str)]) -> Option<TraceContext> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        TraceContext::extract(&map)
    }

    #[test]
    fn the_example_of_the_recommendation_is_understood_and_passed_on() {
        let context = extract(&[
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
        ])
        .unwrap();
        assert_eq!(
            context.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("old=1"));
        inject(&context.into_span_context(), &mut headers);
        assert_eq!(headers[TRACEPARENT], PARENT);
        assert_eq!(headers[TRACESTATE], "a=1,b=2");
    }

    #[test]
    fn what_must_be_ignored_is_ignored() {
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            PARENT[..54].to_owned(),
            PARENT.to_uppercase(),
            format!("{PARENT}-more"),
            format!("{PARENT}0"),
            PARENT.replacen("00-", "ff-", 1),
            PARENT.replacen('-', "_", 1),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros),
            PARENT.replace("00f067aa0ba902b7", &zeros[..16]),
            PARENT.replacen("00-", "01-", 1) + "0",
        ] {
            assert_eq!(extract(&[("traceparent", &bad)]), None, "{bad}");
        }
        assert_eq!(
            extract(&[("traceparent", PARENT), ("traceparent", PARENT)]),
            None
        );
        assert_eq!(extract(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn a_later_version_may_say_more_and_a_bad_state_is_left_out() {
        assert!(
            extract(&[("traceparent", &(PARENT.replacen("00-", "01-", 1) + "-more"))]).is_some()
        );
        for bad in ["novalue", "\u{fc}", &format!("a={}", "x".repeat(MAX_STATE))] {
            let context = extract(&[("traceparent", PARENT), ("tracestate", bad)]).unwrap();
            assert_eq!(
                context.into_span_context().trace_state().header(),
                "",
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_opentelemetry_writes_is_read_the_same(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let sent = SpanContext::new(trace.into(), span.into(), flags, true, TraceState::default());
            let mut headers = HeaderMap::new();
            inject(&sent, &mut headers);
            let theirs = TraceContextPropagator::new().extract(&HeaderExtractor(&headers));
            prop_assert_eq!(theirs.span().span_context().clone(), sent.clone());
            prop_assert_eq!(TraceContext::extract(&headers).map(TraceContext::into_span_context), Some(sent));
        }

        #[test]
        fn no_header_is_read_that_opentelemetry_refuses(text in "[0-9a-fA-F]{2}[-_][0-9a-fg]{32}-[0-9a-f]{16}-0[0-3](-x)?") {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
            if let Some(ours) = TraceContext::extract(&headers) {
                let theirs = TraceContextPropagator::new().extract(&HeaderExtractor(&headers));
                prop_assert_eq!(theirs.span().span_context().trace_id(), ours.into_span_context().trace_id());
            }
        }
    }
}
