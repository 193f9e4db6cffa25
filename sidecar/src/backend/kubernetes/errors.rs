//! What an error of the API server or of the way there means for a lock.

use std::{error::Error as StdError, time::Duration};

use http::StatusCode;
use hyper_util::client::legacy;
use kube::core::Status;
use pawl_kit::tls::tls_reason_in;
use pawl_lock::{
    BackendError,
    backend::{Category, Outcome},
};

use super::record::{Garbled, NoRoom};

/// The most bytes of the server's own words in an error.
const MAX_WORDS: usize = 300;

/// What was asked of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    Get,
    List,
    Watch,
    Create,
    Update,
    Delete,
    Review,
}

impl Doing {
    /// The verb that a role must allow.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create | Self::Review => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    const fn resource(self) -> &'static str {
        match self {
            Self::Review => "selfsubjectaccessreviews.authorization.k8s.io",
            _ => "leases.coordination.k8s.io",
        }
    }

    /// Whether it may have had an effect when no answer says so.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Create | Self::Update | Self::Delete => Outcome::Unknown,
            Self::Get | Self::List | Self::Watch | Self::Review => Outcome::NotApplied,
        }
    }
}

/// An answer that is neither success nor conflict.
pub(super) fn refused(
    status: StatusCode,
    body: &[u8],
    doing: Doing,
    namespace: &str,
) -> BackendError {
    let words = words(body);
    let (verb, resource) = (doing.verb(), doing.resource());
    let (category, outcome, message) = match status {
        StatusCode::UNAUTHORIZED => (
            Category::Config,
            Outcome::NotApplied,
            "the API server does not know this service account (401): its token is missing, expired or of another \
             cluster"
                .to_owned(),
        ),
        StatusCode::FORBIDDEN => (
            Category::Config,
            Outcome::NotApplied,
            format!("the service account may not {verb} {resource} in namespace {namespace}: {words}"),
        ),
        StatusCode::NOT_FOUND => (
            Category::Config,
            Outcome::NotApplied,
            format!("the API server has no namespace {namespace}: {words}"),
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            Category::Unavailable,
            Outcome::NotApplied,
            "the API server has too many requests (429)".to_owned(),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            Category::Full,
            Outcome::NotApplied,
            format!("the API server takes no object that large: {words}"),
        ),
        status if status.is_server_error() => (
            Category::Unavailable,
            doing.outcome(),
            format!("the API server failed to {verb} a Lease ({}): {words}", status.as_u16()),
        ),
        status => (
            Category::Protocol,
            Outcome::NotApplied,
            format!("the API server refused to {verb} a Lease ({}): {words}", status.as_u16()),
        ),
    };
    BackendError::new(category, outcome, message)
}

/// No answer came.
pub(super) fn of_call(error: &kube::Error, doing: Doing) -> BackendError {
    if let kube::Error::Auth(error) = error {
        return BackendError::new(
            Category::Config,
            Outcome::NotApplied,
            format!("the service account's token cannot be read: {error}"),
        );
    }
    broken(error, doing)
}

/// The connection could not be made or broke.
pub(super) fn broken(error: &(dyn StdError + 'static), doing: Doing) -> BackendError {
    let is_connect = chain(error)
        .filter_map(|cause| cause.downcast_ref::<legacy::Error>())
        .any(legacy::Error::is_connect);
    let outcome = if is_connect {
        Outcome::NotApplied
    } else {
        doing.outcome()
    };
    let (category, message) = if let Some(reason) = tls_reason_in(error) {
        (
            Category::Tls,
            format!("TLS with the API server failed: {reason}"),
        )
    } else if is_connect {
        (
            Category::Connection,
            "the API server cannot be reached".to_owned(),
        )
    } else {
        (
            Category::Connection,
            "the connection to the API server broke".to_owned(),
        )
    };
    BackendError::new(category, outcome, message).with_source(text(error))
}

/// The causes of an error, itself first.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        (*error).source()
    })
}

fn text(error: &(dyn StdError + 'static)) -> String {
    chain(error)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// There is no way to the API server, by file or by service account.
pub(super) fn no_access(error: &(dyn StdError + 'static)) -> BackendError {
    let message = "there is neither a kubeconfig nor a service account's token to reach the API server with \
                   (automountServiceAccountToken)";
    BackendError::new(Category::Config, Outcome::NotApplied, message).with_source(text(error))
}

/// The server asked for quiet, and this is within it.
pub(super) fn asked_to_wait(wait: Duration) -> BackendError {
    let message =
        format!("the API server is overloaded and asked for {wait:.1?} of quiet (Retry-After)");
    BackendError::new(Category::Unavailable, Outcome::NotApplied, message)
}

/// A name that no request can be made of.
pub(super) fn not_a_request(error: http::Error) -> BackendError {
    BackendError::new(
        Category::Protocol,
        Outcome::NotApplied,
        "a request cannot be made",
    )
    .with_source(error)
}

/// An object that is no record.
pub(super) fn garbled(name: &str, why: &Garbled) -> BackendError {
    match why {
        Garbled::OtherKey(_) => BackendError::new(
            Category::Unsafe,
            Outcome::NotApplied,
            format!("the Lease {name} is another key's: {why}"),
        ),
        Garbled::Text(_) => BackendError::new(
            Category::Protocol,
            Outcome::NotApplied,
            format!(
                "the Lease {name} was edited and is not understood ({why}): delete it when nobody holds it"
            ),
        ),
    }
}

/// An object that takes no more.
pub(super) fn no_room(name: &str, why: NoRoom) -> BackendError {
    BackendError::new(
        Category::Full,
        Outcome::NotApplied,
        format!("the Lease {name} is full: {why}"),
    )
}

/// The server's own words.
fn words(body: &[u8]) -> String {
    let message = serde_json::from_slice::<Status>(body).map(|status| status.message);
    let text = message.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
    let printable = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char });
    printable
        .take(MAX_WORDS)
        .collect::<String>()
        .trim()
        .to_owned()
}
