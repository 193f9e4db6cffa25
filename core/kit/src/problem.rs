//! Problem details for HTTP APIs, RFC 9457: what a caller sees when a request fails.
//!
//! Codes are part of the API. A daemon defines its own in one place; here is only their form. What the log needs about
//! a failure is not in here: nothing that names a backend's address, a secret or an internal type belongs into
//! `detail`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// What `type` begins with; the code follows.
pub const TYPE_BASE: &str = "https://pawl.dev/problems/";

/// The media type of a problem.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Members that have a setter of their own and cannot be extensions.
const RESERVED: [&str; 9] = [
    "type",
    "code",
    "title",
    "status",
    "detail",
    "retryAfterMs",
    "holder",
    "reason",
    "traceId",
];

/// One failure, as the caller sees it. Built by [`Problem::new`] and the `with_` methods.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    code: &'static str,
    title: &'static str,
    status: StatusCode,
    detail: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    holder: Option<Value>,
    reason: Option<Cow<'static, str>>,
    trace_id: Option<String>,
    extensions: Vec<(&'static str, Value)>,
}

impl Problem {
    /// A problem of the kind `code` (lower case letters, digits and `_`), whose `title` is the same each time.
    pub const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        debug_assert!(is_code(code), "a problem code is made of a-z, 0-9 and _");
        Self {
            code,
            title,
            status,
            detail: None,
            retry_after: None,
            holder: None,
            reason: None,
            trace_id: None,
            extensions: Vec::new(),
        }
    }

    /// What happened this time, in a sentence for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// When to try again: `retryAfterMs` in the body (rounded up) and the `Retry-After` header in whole seconds.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Who holds what was asked for: a name, or an object that says more.
    #[must_use]
    pub fn with_holder(mut self, holder: impl Into<Value>) -> Self {
        self.holder = Some(holder.into());
        self
    }

    /// The cause, as a short word of a closed list that programs may compare with.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The trace in which the request is found, when it has one.
    #[must_use]
    pub fn with_trace_id(mut self, trace_id: Option<impl fmt::Display>) -> Self {
        self.trace_id = trace_id.map(|id| id.to_string());
        self
    }

    /// Another member (camelCase). A member of this name is replaced; names that have a setter are refused (in debug
    /// builds by a panic, in release builds by leaving the problem as it was).
    #[must_use]
    pub fn with_extension(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        debug_assert!(
            !RESERVED.contains(&name),
            "`{name}` has a setter of its own"
        );
        if !RESERVED.contains(&name) {
            self.extensions.retain(|(known, _)| *known != name);
            self.extensions.push((name, value.into()));
        }
        self
    }

    /// The stable code, also the last part of `type`.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status it is answered with.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened this time, if it was said.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The cause, if it was said.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When to try again, if it was said.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body: one JSON object.
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
    }

    /// The answer: status, `application/problem+json`, `Cache-Control: no-store`, and `Retry-After` when it is known.
    pub fn to_response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.to_json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        response
    }
}

/// Whole seconds, rounded up: a caller that waits so long never comes too early.
fn whole_seconds(after: Duration) -> u64 {
    after
        .as_secs()
        .saturating_add(u64::from(after.subsec_nanos() > 0))
}

/// Whole milliseconds, rounded up.
fn whole_millis(after: Duration) -> u64 {
    u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

const fn is_code(code: &str) -> bool {
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("{TYPE_BASE}{}", self.code))?;
        map.serialize_entry("code", self.code)?;
        map.serialize_entry("title", self.title)?;
        map.serialize_entry("status", &self.status.as_u16())?;
        if let Some(detail) = &self.detail {
            map.serialize_entry("detail", detail)?;
        }
        if let Some(after) = self.retry_after {
            map.serialize_entry("retryAfterMs", &whole_millis(after))?;
        }
        if let Some(holder) = &self.holder {
            map.serialize_entry("holder", holder)?;
        }
        if let Some(reason) = &self.reason {
            map.serialize_entry("reason", reason)?;
        }
        if let Some(trace_id) = &self.trace_id {
            map.serialize_entry("traceId", trace_id)?;
        }
        for (name, value) in &self.extensions {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.code)?;
        self.detail
            .as_deref()
            .map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const HELD: Problem = Problem::new(
        StatusCode::LOCKED,
        "held",
        "The key is held by another owner",
    );

    async fn parts(problem: &Problem) -> (http::response::Parts, String) {
        let (parts, body) = problem.to_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_smallest_problem_has_type_code_title_and_status() {
        let (parts, body) = parts(&HELD).await;
        assert_eq!(parts.status, StatusCode::LOCKED);
        assert_eq!(parts.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(parts.headers[CACHE_CONTROL], "no-store");
        assert!(!parts.headers.contains_key(RETRY_AFTER));
        assert_eq!(
            body,
            r#"{"type":"https://pawl.dev/problems/held","code":"held","title":"The key is held by another owner","status":423}"#
        );
    }

    #[tokio::test]
    async fn every_member_is_rendered_in_a_fixed_order() {
        let problem = HELD
            .with_extension("highest", 7)
            .with_extension("waiters", json!([1]))
            .with_extension("highest", 8)
            .with_trace_id(Some("4bf92f3577b34da6a3ce929d0e0e4736"))
            .with_reason("held_elsewhere")
            .with_holder(json!({"owner": "a"}))
            .with_retry_after(Duration::from_micros(1_500_001))
            .with_detail("key \"a/b\"");
        let (parts, body) = parts(&problem).await;
        assert_eq!(parts.headers[RETRY_AFTER], "2");
        assert_eq!(
            body,
            concat!(
                r#"{"type":"https://pawl.dev/problems/held","code":"held","title":"The key is held by another owner","#,
                r#""status":423,"detail":"key \"a/b\"","retryAfterMs":1501,"holder":{"owner":"a"},"#,
                r#""reason":"held_elsewhere","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","waiters":[1],"highest":8}"#
            )
        );
        assert_eq!(problem.to_string(), "423 held: key \"a/b\"");
    }

    #[test]
    #[should_panic(expected = "has a setter of its own")]
    fn an_extension_cannot_take_the_place_of_a_member() {
        let _ = HELD.with_extension("status", 200);
    }

    #[test]
    fn codes_are_lower_case_words() {
        assert!(is_code("backend_full2"));
        for bad in ["", "Held", "held-by", "a b", "ü"] {
            assert!(!is_code(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_caller_that_obeys_retry_after_is_never_early(nanos in 0_u64..u64::MAX) {
            let after = Duration::from_nanos(nanos);
            let seconds = Duration::from_secs(whole_seconds(after));
            let millis = Duration::from_millis(whole_millis(after));
            prop_assert!(seconds >= after && seconds.saturating_sub(after) < Duration::from_secs(1));
            prop_assert!(millis >= after && millis.saturating_sub(after) < Duration::from_millis(1));
        }

        #[test]
        fn any_text_stays_one_json_object(detail in ".*", reason in ".*") {
            let problem = HELD.with_detail(detail.clone()).with_reason(reason.clone());
            let value: Value = serde_json::from_slice(&problem.to_json()).unwrap();
            prop_assert_eq!(&value["detail"], &Value::from(detail));
            prop_assert_eq!(&value["reason"], &Value::from(reason));
            prop_assert_eq!(&value["status"], 423);
        }
    }
}
