//! Every way in which a call can fail, as callers see it: part of the API, explained in `docs/errors.md`.

use http::StatusCode;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:ident $code:literal $title:literal,)*) => {
        /// A kind of failure.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code {$(
            $(#[doc = $doc])+
            $name,
        )*}

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable word, `code` in the answer and the end of `type`.
            pub const fn as_str(self) -> &'static str {
                match self {$(Self::$name => $code,)*}
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self {$(Self::$name => StatusCode::$status,)*}
            }

            /// The same sentence each time.
            pub const fn title(self) -> &'static str {
                match self {$(Self::$name => $title,)*}
            }
        }
    };
}

codes! {
    /// Not well-formed, or ambiguous.
    MalformedRequest = BAD_REQUEST "malformed_request" "The request is not well-formed",
    /// The body is not JSON.
    InvalidJson = BAD_REQUEST "invalid_json" "The body is not JSON",
    /// The path holds no lockable key.
    InvalidKey = BAD_REQUEST "invalid_key" "The key in the path is not a key",
    /// A query parameter or a header that the API reads.
    InvalidParameter = BAD_REQUEST "invalid_parameter" "A query parameter or a header is not understood",
    /// The policy asks for the pod's token.
    Unauthorized = UNAUTHORIZED "unauthorized" "The policy requires the pod's bearer token",
    /// A browser sent it.
    BrowserRefused = FORBIDDEN "browser_refused" "Web pages have no access to locks",
    /// `keys.allow` of the policy.
    KeyNotAllowed = FORBIDDEN "key_not_allowed" "The policy does not allow this key",
    /// No such path.
    UnknownPath = NOT_FOUND "unknown_path" "There is nothing at this path",
    /// No such policy.
    UnknownPolicy = NOT_FOUND "unknown_policy" "There is no such policy in this sidecar",
    /// `-` with none or several policies.
    AmbiguousPolicy = NOT_FOUND "ambiguous_policy" "- stands for the only policy, and there is not exactly one",
    /// No such lease, or it ended too long ago.
    UnknownLease = NOT_FOUND "unknown_lease" "There is no such lease",
    /// The path has other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed" "The path does not have this method",
    /// Too slow.
    RequestTimeout = REQUEST_TIMEOUT "request_timeout" "The request took too long to arrive",
    /// A fence saw a larger token.
    StaleToken = CONFLICT "stale_token" "A newer fencing token was seen",
    /// The lease is over and was not released.
    LeaseLost = GONE "lease_lost" "The lease was lost",
    /// The lease was released before.
    LeaseReleased = GONE "lease_released" "The lease was released before",
    /// Over 4 KiB.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large" "The body is too large",
    /// Over 8 KiB.
    UriTooLong = URI_TOO_LONG "uri_too_long" "The request target is too long",
    /// Not JSON by its own word.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "The body is not application/json",
    /// An unknown `Expect`.
    ExpectationFailed = EXPECTATION_FAILED "expectation_failed" "The expectation cannot be met",
    /// A foreign `Host`.
    Misdirected = MISDIRECTED_REQUEST "misdirected_request" "The request is meant for another server",
    /// A field's value.
    InvalidField = UNPROCESSABLE_ENTITY "invalid_field" "A field of the body has a value that is refused",
    /// A field that is not known.
    UnknownField = UNPROCESSABLE_ENTITY "unknown_field" "The body has a field that is not known",
    /// A field twice.
    DuplicateField = UNPROCESSABLE_ENTITY "duplicate_field" "The body has a field twice",
    /// One `Idempotency-Key`, two requests.
    IdempotencyMismatch = UNPROCESSABLE_ENTITY "idempotency_mismatch" "The Idempotency-Key was used for another request",
    /// Somebody else has it.
    Held = LOCKED "held" "The key is held by another",
    /// A bound.
    LimitReached = TOO_MANY_REQUESTS "limit_reached" "A limit is reached",
    /// Too large a head.
    HeadersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE "headers_too_large" "The request's head is too large",
    /// The backend does not serve.
    BackendUnavailable = SERVICE_UNAVAILABLE "backend_unavailable" "The backend cannot be used now",
    /// A backend call without an answer.
    Unknown = SERVICE_UNAVAILABLE "unknown" "The backend did not answer: it is not known whether the call had its effect",
    /// The backend has no room.
    BackendFull = SERVICE_UNAVAILABLE "backend_full" "The backend has no room for more",
    /// Credentials, rights, addresses.
    Config = SERVICE_UNAVAILABLE "config" "The backend's configuration is at fault",
    /// Certificates.
    Tls = SERVICE_UNAVAILABLE "tls" "The TLS connection to the backend is refused",
    /// A set-up in which locks are not safe.
    BackendUnsafe = SERVICE_UNAVAILABLE "backend_unsafe" "The backend's set-up makes locks unsafe",
    /// One of several keys was lost before the last was there.
    LostWhileAcquiring = SERVICE_UNAVAILABLE "lost_while_acquiring" "The lease was lost before it could be granted",
    /// A confirmed release without confirmation.
    Unconfirmed = SERVICE_UNAVAILABLE "unconfirmed" "Released, but the backend did not confirm it",
    /// The policy is refused or changes its backend.
    PolicyNotReady = SERVICE_UNAVAILABLE "policy_not_ready" "The policy cannot be served now",
    /// The sidecar goes.
    Draining = SERVICE_UNAVAILABLE "draining" "The sidecar is shutting down",
    /// HTTP/2, HTTP/3, …
    HttpVersion = HTTP_VERSION_NOT_SUPPORTED "http_version_not_supported" "Only HTTP/1.1 and HTTP/1.0 are spoken here",
}
