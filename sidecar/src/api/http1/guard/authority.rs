//! Whether a `Host` is ours.

use std::net::Ipv4Addr;

use super::{Hosts, Reject};

/// Checks the value of a `Host` field.
pub(super) fn check(host: &[u8], hosts: Hosts) -> Result<(), Reject> {
    let (name, port) = split(host).ok_or(Reject::Host("it is malformed"))?;
    match hosts {
        Hosts::Any => Ok(()),
        Hosts::Loopback { port: ours } => {
            if is_loopback(name) && port.is_none_or(|port| port == ours) {
                Ok(())
            } else {
                Err(Reject::ForeignHost)
            }
        }
    }
}

fn is_loopback(name: &[u8]) -> bool {
    let is_address = |name: &[u8]| {
        let name = std::str::from_utf8(name).unwrap_or_default();
        name.parse()
            .is_ok_and(|address: Ipv4Addr| address.is_loopback())
    };
    name == b"127.0.0.1"
        || name.eq_ignore_ascii_case(b"localhost")
        || name == b"[::1]"
        || is_address(name)
}

/// `uri-host [ ":" port ]` of RFC 9110, 7.2, without percent-encoding, which no name of ours has.
fn split(host: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let name_end = if host.first() == Some(&b'[') {
        host.iter().position(|byte| *byte == b']')? + 1
    } else {
        host.iter()
            .position(|byte| *byte == b':')
            .unwrap_or(host.len())
    };
    let (name, rest) = host.split_at(name_end);
    let is_literal = name.first() == Some(&b'[');
    let inner = if is_literal {
        &name[1..name.len() - 1]
    } else {
        name
    };
    let is_allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'-' | b'_')
            || (is_literal && *byte == b':')
    };
    if inner.is_empty() || inner.len() > 255 || !inner.iter().all(is_allowed) {
        return None;
    }
    match rest {
        [] => Some((name, None)),
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) => {
            let is_number = digits.iter().all(u8::is_ascii_digit);
            let digits = std::str::from_utf8(digits).ok()?;
            is_number
                .then(|| digits.parse().ok())
                .flatten()
                .map(|port| (name, Some(port)))
        }
        _ => None,
    }
}
