//! What a path names.

use std::borrow::Cow;

use pawl_lock::{Key, name::InvalidName};

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// `/v1/locks/{policy}`
    Locks {
        /// The policy, as it was written.
        policy: &'a str,
    },
    /// `/v1/locks/{policy}/{key}`
    Lock {
        /// The policy, as it was written.
        policy: &'a str,
        /// The key, as it was written: see [`key`].
        key: &'a str,
    },
    /// `/v1/leases/{leaseId}`
    Lease {
        /// The lease's handle, as it was written.
        id: &'a str,
    },
    /// `/v1/leases/{leaseId}/renew`
    Renew {
        /// The lease's handle, as it was written.
        id: &'a str,
    },
    /// `/v1/leases/{leaseId}/events`
    Events {
        /// The lease's handle, as it was written.
        id: &'a str,
    },
    /// `/v1/fences/{policy}/{key}`
    Fence {
        /// The policy, as it was written.
        policy: &'a str,
        /// The key, as it was written: see [`key`].
        key: &'a str,
    },
}

/// Why a key in a path is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathKeyError {
    /// A `%` without two hexadecimal digits.
    #[error("a % is not followed by two hexadecimal digits")]
    Percent,
    /// Decoded, it is not UTF-8.
    #[error("it is not UTF-8")]
    Utf8,
    /// Decoded, it is no key.
    #[error("{0}")]
    Name(#[from] InvalidName),
}

impl<'a> Route<'a> {
    /// The route of a path; nothing if there is none.
    pub fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        let (kind, rest) = rest.split_once('/')?;
        match kind {
            "locks" => Some(match rest.split_once('/') {
                Some((policy, key)) => Self::Lock { policy, key },
                None => Self::Locks { policy: rest },
            }),
            "fences" => {
                let (policy, key) = rest.split_once('/')?;
                Some(Self::Fence { policy, key })
            }
            "leases" => match rest.split_once('/') {
                None => Some(Self::Lease { id: rest }),
                Some((id, "renew")) => Some(Self::Renew { id }),
                Some((id, "events")) => Some(Self::Events { id }),
                Some(_) => None,
            },
            _ => None,
        }
    }

    /// The methods of the path, as `Allow` names them.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Locks { .. } | Self::Lock { .. } => "GET, POST",
            Self::Lease { .. } => "GET, DELETE",
            Self::Renew { .. } | Self::Fence { .. } => "POST",
            Self::Events { .. } => "GET",
        }
    }

    /// The pattern, for spans.
    pub const fn pattern(self) -> &'static str {
        match self {
            Self::Locks { .. } => "/v1/locks/{policy}",
            Self::Lock { .. } => "/v1/locks/{policy}/{key}",
            Self::Lease { .. } => "/v1/leases/{leaseId}",
            Self::Renew { .. } => "/v1/leases/{leaseId}/renew",
            Self::Events { .. } => "/v1/leases/{leaseId}/events",
            Self::Fence { .. } => "/v1/fences/{policy}/{key}",
        }
    }
}

/// The key that the rest of a path spells: percent-encoding is taken off once, and what is left is a key or refused.
///
/// # Errors
/// [`PathKeyError`].
pub fn key(path: &str) -> Result<Key, PathKeyError> {
    Ok(Key::try_new(&decode(path)?)?)
}

/// Takes percent-encoding off, once.
fn decode(path: &str) -> Result<Cow<'_, str>, PathKeyError> {
    let mut parts = path.split('%');
    let mut decoded = match parts.next() {
        Some(first) if first.len() < path.len() => first.as_bytes().to_vec(),
        _ => return Ok(Cow::Borrowed(path)),
    };
    for part in parts {
        let (digits, rest) = part
            .as_bytes()
            .split_first_chunk::<2>()
            .ok_or(PathKeyError::Percent)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(PathKeyError::Percent);
        let byte = digit(digits[0])? << 4 | digit(digits[1])?;
        decoded.push(u8::try_from(byte).unwrap_or_default());
        decoded.extend_from_slice(rest);
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| PathKeyError::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_route_or_none() {
        for (path, route) in [
            ("/v1/locks/p", Some(Route::Locks { policy: "p" })),
            (
                "/v1/locks/p/a/b",
                Some(Route::Lock {
                    policy: "p",
                    key: "a/b",
                }),
            ),
            (
                "/v1/locks/p/",
                Some(Route::Lock {
                    policy: "p",
                    key: "",
                }),
            ),
            ("/v1/locks/", Some(Route::Locks { policy: "" })),
            ("/v1/leases/7", Some(Route::Lease { id: "7" })),
            ("/v1/leases/7/renew", Some(Route::Renew { id: "7" })),
            ("/v1/leases/7/events", Some(Route::Events { id: "7" })),
            ("/v1/leases/7/", None),
            ("/v1/leases/7/renew/", None),
            ("/v1/fences/p", None),
            (
                "/v1/fences/p/renew",
                Some(Route::Fence {
                    policy: "p",
                    key: "renew",
                }),
            ),
            ("/v1/locks", None),
            ("/v1", None),
            ("/v2/locks/p", None),
            ("//v1/locks/p", None),
            ("/", None),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn a_key_is_decoded_once() {
        for (path, expected) in [
            ("account/42", Ok("account/42")),
            ("account%2F42", Ok("account/42")),
            ("account%2f42", Ok("account/42")),
            ("%61%3A%40", Ok("a:@")),
            ("%", Err(PathKeyError::Percent)),
            ("a%2", Err(PathKeyError::Percent)),
            ("a%zz", Err(PathKeyError::Percent)),
            ("a%+1", Err(PathKeyError::Percent)),
            ("%ff", Err(PathKeyError::Utf8)),
        ] {
            assert_eq!(
                key(path).as_ref().map(Key::as_str),
                expected.as_ref().map(|key| &**key),
                "{path}"
            );
        }
        for wrong in [
            "",
            ".",
            "..",
            "%2e",
            "%2E%2e",
            "a/../b",
            "a/%2e%2e/b",
            "a//b",
            "a/",
            "/a",
            "%00",
            "a%0d%0ab",
            "%252F",
            "{a}",
            "*",
            "\"",
            "'",
            "a b",
            "a%20b",
            "%c3%a4",
            "a+b",
            "a,b",
            "a;b",
            "a=b",
            "a~b",
            "a\\b",
        ] {
            assert!(
                matches!(key(wrong), Err(PathKeyError::Name(_))),
                "{wrong}: {:?}",
                key(wrong)
            );
        }
        assert!(key(&"x".repeat(253)).is_ok());
        assert!(key(&"x".repeat(254)).is_err());
    }
}
