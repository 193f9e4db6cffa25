//! What a request's head must be like, decided on its raw bytes.
//!
//! HTTP parsers are lenient where implementations differ, and what two of them read differently is what attacks are
//! made of (request smuggling, DNS rebinding). So everything ambiguous is refused here, before anything acts on it:
//! bare LF, control bytes, folded headers, two lengths, a length beside a coding, a foreign `Host`, a browser's
//! `Origin`. Pure functions of bytes: no socket, no clock, and no allocation for a request that is taken.
//!
//! Sources: RFC 9110, RFC 9112, the Fetch standard (`Sec-Fetch-*`).

use httparse::{EMPTY_HEADER, Status};

pub use reject::Reject;
pub use scan::Scanner;

mod authority;
mod reject;
mod scan;
#[cfg(test)]
mod tests;

/// The most bytes of a head, from the request line to the empty line.
pub const MAX_HEAD: usize = 16 * 1024;
/// The most bytes of a request target.
pub const MAX_TARGET: usize = 8 * 1024;
/// The most header fields.
pub const MAX_HEADERS: usize = 64;
/// The most bytes of a body, chunk framing not counted.
pub const MAX_BODY: usize = 4 * 1024;

/// Which `Host` is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hosts {
    /// `localhost`, `[::1]` or a loopback address of IPv4, with this port or none. A browser that was led here by a DNS
    /// name of an attacker names that.
    Loopback {
        /// The port that is listened on.
        port: u16,
    },
    /// Any that is well-formed: no browser reaches a Unix socket.
    Any,
}

/// A head that was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The method, as it was written. Any token.
    pub method: &'a str,
    /// The path, from its `/` to the query, as it was written.
    pub path: &'a str,
    /// What follows the `?`, if there is one.
    pub query: Option<&'a str>,
    /// How the body ends.
    pub body: Framing,
    /// Whether the connection may serve another request after this one.
    pub keep_alive: bool,
    /// Whether the caller waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// HTTP/1.0: no chunked answer is understood.
    pub is_http10: bool,
    /// The fields that the API reads.
    pub fields: Fields<'a>,
}

/// How a request's body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none, or so many bytes of it; at most [`MAX_BODY`].
    Length(usize),
    /// By its last chunk.
    Chunked,
}

/// The header fields that the API reads. Each stands at most once in a request, but for `accept` and `tracestate`, of
/// which the first counts, and `traceparent`, of which two are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fields<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Accept`.
    pub accept: Option<&'a [u8]>,
    /// `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<&'a [u8]>,
    /// `traceparent`.
    pub traceparent: Option<&'a [u8]>,
    /// `tracestate`.
    pub tracestate: Option<&'a [u8]>,
}

/// Reads a whole head: from the request line to the empty line, as [`Scanner`] found its end.
///
/// # Errors
/// [`Reject`] for the first fault that is found.
pub fn inspect(head: &[u8], hosts: Hosts) -> Result<Head<'_>, Reject> {
    let mut fields = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(Reject::Malformed("the head has no end")),
        Err(error) => return Err(parse_error(error)),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Reject::Malformed("the request line is incomplete"));
    };
    let (path, query) = split_target(target)?;
    let mut seen = Seen::default();
    for field in request.headers.iter() {
        seen.take(field.name, field.value)?;
    }
    seen.finish(hosts, version == 0)
        .map(|(body, keep_alive)| Head {
            method,
            path,
            query,
            body,
            keep_alive,
            expects_continue: seen.expects_continue,
            is_http10: version == 0,
            fields: seen.fields,
        })
}

fn parse_error(error: httparse::Error) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => Reject::TooManyHeaders,
        httparse::Error::HeaderName => Reject::Malformed("a header's name is not a token"),
        httparse::Error::HeaderValue => Reject::Malformed("a header's value has a control byte"),
        httparse::Error::NewLine => Reject::Malformed("a line does not end with CR LF"),
        // The scanner has seen that a version is there: something else stands between.
        httparse::Error::Token | httparse::Error::Status | httparse::Error::Version => {
            Reject::Malformed("the request line is not a method, a target and a version")
        }
    }
}

/// Only the origin form is for us: `/path?query`.
fn split_target(target: &str) -> Result<(&str, Option<&str>), Reject> {
    if target.len() > MAX_TARGET {
        return Err(Reject::TargetTooLong);
    }
    if !target.starts_with('/') {
        return Err(Reject::Target("it is not a path; write /v1/…"));
    }
    if target.contains('#') {
        return Err(Reject::Target("it has a fragment"));
    }
    if !target.is_ascii() {
        return Err(Reject::Target("it has a byte that is not ASCII"));
    }
    Ok(match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    })
}

/// What the header fields said so far.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<usize>,
    coding: Option<&'a [u8]>,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
    fields: Fields<'a>,
}

impl<'a> Seen<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), Reject> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: most fields of most requests are none of these.
        match name.len() {
            2 if is("te") => {}
            4 if is("host") => once(&mut self.host, value, Reject::Host("it is given twice"))?,
            6 if is("accept") => {
                self.fields.accept.get_or_insert(value);
            }
            6 if is("expect") => self.expect(value)?,
            6 if is("origin") => return Err(Reject::Browser("Origin")),
            7 if is("upgrade") => {}
            10 if is("connection") => self.connection(value),
            10 if is("tracestate") => {
                self.fields.tracestate.get_or_insert(value);
            }
            11 if is("traceparent") => {
                // Two parents are none (Trace Context, 3.2.1).
                let first = self.fields.traceparent.is_none();
                self.fields.traceparent = Some(if first { value } else { b"" });
            }
            12 if is("content-type") => single(&mut self.fields.content_type, value)?,
            13 if is("authorization") => single(&mut self.fields.authorization, value)?,
            14 if is("content-length") => self.content_length(value)?,
            14 if is("sec-fetch-site") => return Err(Reject::Browser("Sec-Fetch-Site")),
            15 if is("idempotency-key") => single(&mut self.fields.idempotency_key, value)?,
            16 if is("content-encoding") => {
                return Err(Reject::ContentEncoding);
            }
            17 if is("transfer-encoding") => once(
                &mut self.coding,
                value,
                Reject::Malformed("Transfer-Encoding is given twice"),
            )?,
            _ => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Reject> {
        if self.length.is_some() {
            return Err(Reject::Malformed("Content-Length is given twice"));
        }
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !is_number {
            return Err(Reject::Malformed("Content-Length is not a number"));
        }
        // A number too large for usize is too large for us.
        let length = value.iter().try_fold(0_usize, |sum, digit| {
            sum.checked_mul(10)?.checked_add(usize::from(digit - b'0'))
        });
        self.length = Some(length.unwrap_or(usize::MAX));
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Reject> {
        if value.eq_ignore_ascii_case(b"100-continue") {
            self.expects_continue = true;
            Ok(())
        } else {
            Err(Reject::Expectation)
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// The rules between fields.
    fn finish(&self, hosts: Hosts, is_http10: bool) -> Result<(Framing, bool), Reject> {
        let host = self.host.ok_or(Reject::Host("it is missing"))?;
        authority::check(host, hosts)?;
        let body = match (self.length, self.coding) {
            (Some(_), Some(_)) => {
                return Err(Reject::Malformed(
                    "Content-Length and Transfer-Encoding exclude each other",
                ));
            }
            (None, Some(_)) if is_http10 => {
                return Err(Reject::Malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            (None, Some(_)) => {
                return Err(Reject::Malformed(
                    "only the transfer coding \"chunked\" is known",
                ));
            }
            (Some(length), None) if length > MAX_BODY => return Err(Reject::BodyTooLarge),
            (length, None) => Framing::Length(length.unwrap_or(0)),
        };
        let keep_alive = !self.says_close && (!is_http10 || self.says_keep_alive);
        Ok((body, keep_alive))
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], twice: Reject) -> Result<(), Reject> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

fn single<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Reject> {
    once(
        slot,
        value,
        Reject::Malformed("a header that may stand once is given twice"),
    )
}
