//! The live page: three files that are part of the program.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};

use super::route::typed;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's file `name`; the empty name is the page itself.
pub(super) fn file(name: &str) -> Option<Response<Full<Bytes>>> {
    let (media, text) = match name {
        "" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "page.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        ),
        _ => return None,
    };
    let mut response = typed(media, Bytes::from_static(text.as_bytes()));
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    Some(response)
}
