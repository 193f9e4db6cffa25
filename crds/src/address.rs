//! Where a backend may be: the grammar of URLs and host names in a policy.
//!
//! The grammars are regular expressions in the syntax that RE2 (the API server) and `regex-lite` (here) read alike,
//! so that one text serves both. They are strict on purpose: a host is a DNS name, a dotted IPv4 address or a
//! bracketed IPv6 address, never a number in another notation that hides which address it is.

use regex_lite::Regex;

use crate::rule::{At, Rule};

/// Longest URL or address, in bytes.
pub(crate) const MAX_ADDRESS: u32 = 512;

const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
/// The last label starts with a letter: what starts with a digit would be read as a number by some resolvers.
const NAME: &str =
    "([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?[.])*[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?";
const IPV6: &str = "\\[[0-9A-Fa-f:]{2,39}\\]";
const PORT: &str =
    "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
/// Anything before the `@`, also a password: that one has a message of its own.
const USER_INFO: &str = "([^/?#@ ]*@)?";
const PASSWORD: &str = "^[a-z]+://[^/@]*:[^/@]*@";
/// Link-local addresses, the metadata services of the clouds, and IPv4 addresses in the clothes of IPv6.
const OFF_LIMITS: &str = "(?i)^([a-z]+://([^/@]*@)?)?(169[.]254[.]|100[.]100[.]100[.]200(:|/|$)|metadata[.]goog|instance-data[.]ec2[.]internal|\\[fe[89ab][0-9a-f]:|\\[fd00:ec2:|\\[64:ff9b:|\\[[0:]*:ffff:|\\[[0:]*:a9fe:)";

/// Is the port part of the grammar?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Required,
    Optional,
}

/// May a user name stand before the host?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Allowed,
    Refused,
}

/// `host:port`.
pub(crate) fn host_and_port(port: Port) -> String {
    format!("^{}$", authority(port))
}

/// `scheme://user@host:port` and then `path`, a regular expression.
pub(crate) fn url(schemes: &str, user: User, port: Port, path: &str) -> String {
    let user = if user == User::Allowed { USER_INFO } else { "" };
    format!("^{schemes}://{user}{}{path}$", authority(port))
}

fn authority(port: Port) -> String {
    let dotted = format!("({OCTET}[.]){{3}}{OCTET}");
    let port = if port == Port::Required {
        format!(":{PORT}")
    } else {
        format!("(:{PORT})?")
    };
    format!("({dotted}|{NAME}|{IPV6}){port}")
}

/// The rules of every address: its grammar, no password in it, no place that is off limits.
pub(crate) fn rules<T: 'static>(
    at: At,
    grammar: &str,
    shape: &str,
    get: fn(&T) -> Vec<&str>,
) -> Vec<Rule<T>> {
    vec![
        Rule::matching(at, grammar, shape, get),
        Rule::never_matching(
            at,
            PASSWORD,
            "must not contain a password: put it into the Secret named by credentialsSecretRef",
            get,
        )
        .forbidden(),
        Rule::never_matching(
            at,
            OFF_LIMITS,
            "must not be a link-local address or a metadata service",
            get,
        )
        .forbidden(),
    ]
}

/// Does a pattern of ours match? The API server's `matches` is a search too.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    Regex::new(pattern)
        .expect("patterns of the schema compile; the table of cases runs each")
        .is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_dotted_quads_or_bracketed() {
        let grammar = host_and_port(Port::Required);
        for good in [
            "redis:6379",
            "a.b-c.d:1",
            "10.0.0.255:65535",
            "[::1]:80",
            "[2001:db8::7]:6379",
            "redis_1:1",
        ] {
            assert!(is_match(&grammar, good), "{good}");
        }
        for bad in [
            "redis",
            "redis:",
            "redis:0",
            "redis:65536",
            "redis:06379",
            ":6379",
            "2852039166:80",
            "0xa9fea9fe:80",
            "169.254.43518:80",
            "10.0.0.256:1",
            "010.0.0.1:1",
            "a..b:1",
            "-a:1",
            "a-:1",
            "::1:80",
            "[::1%eth0]:80",
            "a b:1",
            "a:1\n",
            "[::ffff:169.254.169.254]:80",
            "redis.:6379",
        ] {
            assert!(!is_match(&grammar, bad), "{bad}");
        }
    }

    #[test]
    fn metadata_services_are_off_limits() {
        for bad in [
            "http://169.254.169.254",
            "redis://user@169.254.1.1:6379",
            "169.254.169.254:2181",
            "http://100.100.100.200/",
            "http://Metadata.Google.Internal:80",
            "http://metadata.goog",
            "http://[fe80::1]:80",
            "http://[FE9f::1]",
            "http://[fd00:ec2::254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[0:0:0:0:0:ffff:a9fe:a9fe]",
            "http://[::a9fe:a9fe]",
            "http://[64:ff9b::a9fe:a9fe]",
        ] {
            assert!(is_match(OFF_LIMITS, bad), "{bad}");
        }
        for good in [
            "http://169.253.1.1",
            "http://10.169.254.1",
            "redis://redis:6379",
            "http://100.100.100.20",
            "http://[fec0::1]",
            "redis://169.254@redis",
        ] {
            assert!(!is_match(OFF_LIMITS, good), "{good}");
        }
    }
}
