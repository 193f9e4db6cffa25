//! The trace of one request.

use http::header::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::REQUEST_TARGET;
use super::context::{self, TRACEPARENT, TRACESTATE, TraceContext, TraceId};

/// What a request said of its trace, and the span that it has here.
///
/// When nobody listens (no export, no debug log) there is no span, nothing is allocated or parsed, and the trace id is
/// read from the header at the moment it is asked for.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    span: Span,
    trace_id: Option<TraceId>,
    /// As they came, kept only while there is no span of ours to pass on.
    came: Option<(HeaderValue, Option<HeaderValue>)>,
}

impl RequestTrace {
    /// Begins the server span of a request. `route` is the pattern and not the path: it names the span, and names
    /// must be few.
    pub fn begin(headers: &HeaderMap, method: &http::Method, route: &'static str) -> Self {
        let span = tracing::debug_span!(
            target: REQUEST_TARGET,
            "request",
            otel.name = format_args!("{method} {route}"),
            otel.kind = "server",
            http.request.method = method.as_str(),
            http.route = route,
            http.response.status_code = Empty,
            otel.status_code = Empty,
            trace_id = Empty,
        );
        if span.is_disabled() {
            return Self {
                span,
                trace_id: None,
                came: came(headers),
            };
        }
        let remote = TraceContext::extract(headers);
        let mut trace_id = remote.as_ref().map(TraceContext::trace_id);
        if let Some(remote) = remote {
            // An error says that spans go to the log only, and have no parent there.
            let _ = span
                .set_parent(Context::new().with_remote_span_context(remote.into_span_context()));
        }
        trace_id = TraceId::of(span.context().span().span_context()).or(trace_id);
        if let Some(id) = trace_id {
            span.record("trace_id", display(id));
        }
        Self {
            span,
            trace_id,
            came: came(headers),
        }
    }

    /// The span, for `tracing::Instrument`; a disabled one when nobody listens.
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// The trace, for `traceId` in problems: the caller's, or the one begun here when spans are exported.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace_id.or_else(|| {
            self.came
                .as_ref()
                .and_then(|(parent, _)| context::trace_id(parent))
        })
    }

    /// Passes the trace on to the headers of an outgoing request: with this span as the parent when it is exported,
    /// else as it came.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let context = self.span.context();
        let own = context.span().span_context().clone();
        if !self.span.is_disabled() && own.is_valid() {
            context::inject(&own, headers);
        } else if let Some((parent, state)) = &self.came {
            headers.insert(TRACEPARENT, parent.clone());
            headers.remove(TRACESTATE);
            if let Some(state) = state {
                headers.insert(TRACESTATE, state.clone());
            }
        }
    }

    /// Says how the request was answered; 5xx marks the span as failed. The span ends with the last clone.
    pub fn answered(&self, status: http::StatusCode) {
        if self.span.is_disabled() {
            return;
        }
        self.span
            .record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// The headers as they came, when there is one parent and at most one state. Cloning a header shares its bytes.
fn came(headers: &HeaderMap) -> Option<(HeaderValue, Option<HeaderValue>)> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else {
        return None;
    };
    let mut states = headers.get_all(TRACESTATE).iter();
    let state = states.next().filter(|_| states.next().is_none());
    Some((parent.clone(), state.cloned()))
}
