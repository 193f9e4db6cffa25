//! Why a request is refused before it is looked at.

/// Why. After each of these the connection is closed: what follows on it cannot be told apart safely.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reject {
    /// It is no HTTP/1 (a TLS hello, HTTP/0.9, the preface of HTTP/2): closed without an answer, which would not be
    /// understood.
    #[error("this is not HTTP/1.1")]
    NotHttp,
    /// The head or the body's framing is not well-formed, or could be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// The request target is not a path.
    #[error("the request target is refused: {0}")]
    Target(&'static str),
    /// `Host` is missing, double or malformed.
    #[error("Host is refused: {0}")]
    Host(&'static str),
    /// `Host` names another server.
    #[error("Host names another server than this one; call localhost, 127.0.0.1 or [::1]")]
    ForeignHost,
    /// A web page is behind the request.
    #[error("the request has the header {0}, which browsers send: web pages have no access")]
    Browser(&'static str),
    /// The request target is too long.
    #[error("the request target is longer than 8 KiB")]
    TargetTooLong,
    /// The head is too long.
    #[error("the request's head is longer than 16 KiB")]
    HeadTooLong,
    /// There are too many header fields.
    #[error("the request has more than 64 headers")]
    TooManyHeaders,
    /// The body is too long, or its chunks have more framing than content.
    #[error("the body is longer than 4 KiB")]
    BodyTooLarge,
    /// The body is compressed.
    #[error("the body has a Content-Encoding; send it as it is")]
    ContentEncoding,
    /// `Expect` wants something else than `100-continue`.
    #[error("Expect is refused: only 100-continue is known")]
    Expectation,
    /// HTTP of another version.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
    /// The head or the body did not arrive in time.
    #[error("the request did not arrive within 5 s")]
    Slow,
}
