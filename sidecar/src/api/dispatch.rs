//! From a request to the verb that answers it.

use std::rc::Rc;

use futures::future::{FutureExt, LocalBoxFuture};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pawl_kit::telemetry::RequestTrace;
use tracing::Instrument;

use super::{
    Api, acquire,
    delivery::Delivery,
    error::ApiError,
    events, fence,
    http1::{
        guard::{Fields, Head},
        response::Answer,
    },
    inspect, lease, overview,
    path::Route,
    release, renew,
    stream::Stream,
};

/// A request, whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) body: &'a [u8],
}

/// What is left to do for a request once its bytes were read: nothing of it refers to them.
pub(super) enum Step {
    /// Nothing.
    Done(Outcome),
    /// Wait for a lease, as long as the caller is there.
    Acquire(acquire::Waiting),
    /// Wait for something else, as long as the caller is there.
    Cancellable(LocalBoxFuture<'static, Outcome>),
    /// Wait for something that goes on when the caller leaves.
    Run(LocalBoxFuture<'static, Outcome>),
    /// The answer is an event stream.
    Stream(Box<Stream>),
}

/// How a request ended, with its trace.
pub(super) struct Outcome {
    pub(super) reply: Reply,
    pub(super) trace: RequestTrace,
}

/// An answer, and the grant that it brings.
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) delivery: Option<Rc<Delivery>>,
}

/// What a verb comes to.
pub(super) type Verdict = Result<Reply, ApiError>;

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            delivery: None,
        }
    }
}

impl Outcome {
    /// A verb's verdict as an answer.
    pub(super) fn new(verdict: Verdict, trace: RequestTrace) -> Self {
        let reply = verdict.unwrap_or_else(|error| error.answer(trace.trace_id()).into());
        Self { reply, trace }
    }
}

impl Step {
    /// Work that goes on when the caller leaves.
    pub(super) fn run(work: impl Future<Output = Verdict> + 'static, trace: RequestTrace) -> Self {
        Self::Run(Self::traced(work, trace))
    }

    /// Work that ends when the caller leaves.
    pub(super) fn cancellable(
        work: impl Future<Output = Verdict> + 'static,
        trace: RequestTrace,
    ) -> Self {
        Self::Cancellable(Self::traced(work, trace))
    }

    /// Nothing is left to do.
    pub(super) fn done(verdict: Verdict, trace: RequestTrace) -> Self {
        Self::Done(Outcome::new(verdict, trace))
    }

    fn traced(
        work: impl Future<Output = Verdict> + 'static,
        trace: RequestTrace,
    ) -> LocalBoxFuture<'static, Outcome> {
        let span = trace.span().clone();
        let work = async move { Outcome::new(work.await, trace) };
        work.instrument(span).boxed_local()
    }
}

/// Finds the verb, and lets it do what can be done at once.
pub(super) fn begin(api: &Rc<Api>, head: &Head<'_>, body: &[u8]) -> Step {
    let Some(route) = Route::parse(head.path) else {
        let trace = trace(head, "");
        return Step::Done(Outcome::new(Err(ApiError::UnknownPath), trace));
    };
    let trace = trace(head, route.pattern());
    let request = Request { head, body };
    let verdict = match (route, head.method) {
        (Route::Lock { policy, key }, "POST") => {
            return acquire::one(api, &request, policy, key, trace);
        }
        (Route::Locks { policy }, "POST") => {
            return acquire::several(api, &request, policy, trace);
        }
        (Route::Lock { policy, key }, "GET") => {
            return inspect::begin(api, &request, policy, key, trace);
        }
        (Route::Locks { policy }, "GET") => overview::answer(api, &request, policy),
        (Route::Lease { id }, "GET") => lease::answer(api, &request, id),
        (Route::Lease { id }, "DELETE") => return release::begin(api, &request, id, trace),
        (Route::Renew { id }, "POST") => return renew::begin(api, &request, id, trace),
        (Route::Events { id }, "GET") => return events::begin(api, &request, id, trace),
        (Route::Fence { policy, key }, "POST") => {
            return fence::begin(api, &request, policy, key, trace);
        }
        _ => Err(ApiError::Method {
            allow: route.allow(),
        }),
    };
    Step::Done(Outcome::new(verdict, trace))
}

impl Request<'_> {
    /// Checks that a body is JSON by its own word.
    pub(super) fn check_json(&self) -> Result<(), ApiError> {
        if self.body.is_empty() {
            return Ok(());
        }
        let content_type = self.head.fields.content_type.unwrap_or_default();
        let mut parts = content_type
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii);
        let is_json = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"));
        let is_utf8 = |parameter: &[u8]| {
            let charset = parameter.to_ascii_lowercase();
            !charset.starts_with(b"charset=")
                || matches!(&charset[..], b"charset=utf-8" | b"charset=\"utf-8\"")
        };
        if is_json && parts.all(is_utf8) {
            Ok(())
        } else {
            Err(ApiError::MediaType)
        }
    }

    /// Checks that there is no body.
    pub(super) fn check_empty(&self) -> Result<(), ApiError> {
        if self.body.is_empty() {
            Ok(())
        } else {
            Err(ApiError::UnexpectedBody)
        }
    }

    /// Checks that there is no query.
    pub(super) fn check_no_query(&self) -> Result<(), ApiError> {
        match self.head.query {
            None | Some("") => Ok(()),
            Some(_) => Err(ApiError::Parameter("this call has no query parameters")),
        }
    }
}

fn trace(head: &Head<'_>, pattern: &'static str) -> RequestTrace {
    let method = Method::from_bytes(head.method.as_bytes()).unwrap_or_default();
    RequestTrace::begin(&trace_headers(&head.fields), &method, pattern)
}

/// The trace headers; no allocation where there are none.
fn trace_headers(fields: &Fields<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("traceparent", fields.traceparent),
        ("tracestate", fields.tracestate),
    ] {
        if let Some(value) = value
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            headers.insert(name, value);
        }
    }
    headers
}

/// 204.
pub(super) fn no_content() -> Reply {
    Answer::empty(StatusCode::NO_CONTENT).into()
}
