//! Answers as bytes.

use std::io::Write;

use http::StatusCode;

use super::guard::Head;

/// An answer, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content: Content,
    /// `Allow`.
    pub(crate) allow: Option<&'static str>,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// `WWW-Authenticate: Bearer`.
    pub(crate) asks_for_token: bool,
}

/// A body with its type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    None,
    Json(Vec<u8>),
    Problem(Vec<u8>),
}

/// What a request said about the form of its answer, and what the connection is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form {
    /// The method was HEAD: the answer has no body.
    pub(crate) is_head: bool,
    /// No chunks; keep-alive has to be said.
    pub(crate) is_http10: bool,
    /// Whether the connection goes on after the answer.
    pub(crate) keep_alive: bool,
}

impl Form {
    /// The form for a request.
    pub(crate) fn of(head: &Head<'_>) -> Self {
        Self {
            is_head: head.method == "HEAD",
            is_http10: head.is_http10,
            keep_alive: head.keep_alive,
        }
    }

    /// The form for something that was not understood as a request.
    pub(crate) const fn last() -> Self {
        Self {
            is_head: false,
            is_http10: false,
            keep_alive: false,
        }
    }
}

impl Answer {
    /// An answer without a body.
    pub(crate) const fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content: Content::None,
            allow: None,
            retry_after: None,
            asks_for_token: false,
        }
    }

    /// 200 with JSON.
    pub(crate) fn json(body: Vec<u8>) -> Self {
        Self {
            content: Content::Json(body),
            ..Self::empty(StatusCode::OK)
        }
    }

    /// Appends the answer. `date` is the value of `Date`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, form: Form, date: &str) {
        begin(out, self.status, date);
        let body = match &self.content {
            Content::None => &[][..],
            Content::Json(body) => {
                out.extend_from_slice(b"content-type: application/json\r\n");
                body
            }
            Content::Problem(body) => {
                out.extend_from_slice(b"content-type: application/problem+json\r\n");
                body
            }
        };
        if self.status != StatusCode::NO_CONTENT {
            append(out, format_args!("content-length: {}\r\n", body.len()));
        }
        if let Some(allow) = self.allow {
            append(out, format_args!("allow: {allow}\r\n"));
        }
        if let Some(seconds) = self.retry_after {
            append(out, format_args!("retry-after: {seconds}\r\n"));
        }
        if self.asks_for_token {
            out.extend_from_slice(b"www-authenticate: Bearer realm=\"pawl\"\r\n");
        }
        match (form.keep_alive, form.is_http10) {
            (false, _) => out.extend_from_slice(b"connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, false) => {}
        }
        out.extend_from_slice(b"\r\n");
        if !form.is_head {
            out.extend_from_slice(body);
        }
    }
}

/// Appends the head of an event stream. It is the last answer of its connection.
pub(crate) fn write_stream_head(out: &mut Vec<u8>, form: Form, date: &str) {
    begin(out, StatusCode::OK, date);
    out.extend_from_slice(b"content-type: text/event-stream\r\nconnection: close\r\n");
    if !form.is_http10 {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a piece of an event stream. It must not be empty, which would be the end.
pub(crate) fn write_piece(out: &mut Vec<u8>, form: Form, piece: &[u8]) {
    debug_assert!(!piece.is_empty(), "an empty chunk ends the stream");
    if form.is_http10 {
        out.extend_from_slice(piece);
    } else {
        append(out, format_args!("{:x}\r\n", piece.len()));
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the end of an event stream.
pub(crate) fn write_stream_end(out: &mut Vec<u8>, form: Form) {
    if !form.is_http10 {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// The status line and what every answer has. Nothing here may be cached: it is true for an instant.
fn begin(out: &mut Vec<u8>, status: StatusCode, date: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\ncache-control: no-store\r\ndate: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Form = Form {
        keep_alive: true,
        ..Form::last()
    };

    fn written(answer: &Answer, form: Form) -> String {
        let mut out = Vec::new();
        answer.write(&mut out, form, "DATE");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_says_its_length_unless_it_can_have_none() {
        assert_eq!(
            written(&Answer::json(b"{}".to_vec()), KEPT),
            "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ndate: DATE\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{}"
        );
        assert_eq!(
            written(&Answer::empty(StatusCode::NO_CONTENT), Form::last()),
            "HTTP/1.1 204 No Content\r\ncache-control: no-store\r\ndate: DATE\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn head_is_answered_without_the_body_and_http_10_is_told_that_it_goes_on() {
        let form = Form {
            is_head: true,
            is_http10: true,
            keep_alive: true,
        };
        let answer = Answer {
            allow: Some("GET"),
            retry_after: Some(3),
            asks_for_token: true,
            ..Answer::json(b"{}".to_vec())
        };
        let written = written(&answer, form);
        assert!(
            written.ends_with("connection: keep-alive\r\n\r\n"),
            "{written}"
        );
        for line in [
            "content-length: 2",
            "allow: GET",
            "retry-after: 3",
            "www-authenticate: Bearer realm=\"pawl\"",
        ] {
            assert!(
                written.contains(&format!("{line}\r\n")),
                "{line} in {written}"
            );
        }
    }

    #[test]
    fn pieces_are_chunks_where_they_are_understood() {
        let http10 = Form {
            is_http10: true,
            ..KEPT
        };
        let mut out = Vec::new();
        write_piece(&mut out, KEPT, b"0123456789abcdef!");
        write_stream_end(&mut out, KEPT);
        assert_eq!(out, b"11\r\n0123456789abcdef!\r\n0\r\n\r\n");
        out.clear();
        write_piece(&mut out, http10, b"plain");
        write_stream_end(&mut out, http10);
        assert_eq!(out, b"plain");
        out.clear();
        write_stream_head(&mut out, http10, "DATE");
        assert!(!String::from_utf8(out).unwrap().contains("chunked"));
    }
}
