//! What an error of the server or of the connection means for a lock.

use std::borrow::Cow;

use pawl_kit::tls::tls_reason_in;
use pawl_lock::{
    BackendError,
    backend::{Category, Outcome},
};
use redis::{ErrorKind, RedisError};

/// How a call failed: its category, whether it may have had its effect, and what to tell. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of failure it is.
    pub category: Category,
    /// Whether the call may have had its effect.
    pub outcome: Outcome,
    /// What to tell. It never has a part of a command in it: an old server repeats `HELLO`'s password in its error.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// A failure.
    pub fn new(
        category: Category,
        outcome: Outcome,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            category,
            outcome,
            message: message.into(),
        }
    }

    /// What a command's error means.
    ///
    /// A server refuses a script before it runs it, with a code of its own for each reason: those had no effect. Any
    /// other error, and a broken connection, leave that open.
    pub fn of_call(error: &RedisError) -> Self {
        if let Some(known) = Self::known(error) {
            return known;
        }
        match error.kind() {
            ErrorKind::Io => Self::new(
                Category::Connection,
                Outcome::Unknown,
                "the connection to the Redis server broke",
            ),
            ErrorKind::Server(_) | ErrorKind::Extension => Self::new(
                Category::Protocol,
                Outcome::Unknown,
                format!(
                    "the Redis server answered {}",
                    error.code().unwrap_or("an error")
                ),
            ),
            _ => Self::new(
                Category::Protocol,
                Outcome::Unknown,
                "the Redis server answered something that is not understood",
            ),
        }
    }

    /// What an error in making a connection means: whatever it is, no call was made.
    pub fn of_connect(server: &str, error: &RedisError) -> Self {
        let failed = |category, what: &str| {
            Self::new(
                category,
                Outcome::NotApplied,
                format!("the Redis server {server} {what}"),
            )
        };
        let says = |part| error.detail().is_some_and(|detail| detail.contains(part));
        let failure = if let Some(known) = Self::known(error) {
            known
        } else if let Some(reason) = tls_reason_in(error) {
            Self::tls(server, reason)
        } else if error.kind() == ErrorKind::RESP3NotSupported {
            Self::too_old(server)
        } else if error.kind() == ErrorKind::Io {
            failed(Category::Connection, "closed the connection")
        } else if says("number of clients") {
            failed(Category::Unavailable, "takes no more clients (maxclients)")
        } else if says("DB index") {
            failed(Category::Config, "has no such database")
        } else {
            failed(Category::Protocol, "does not speak as Redis does")
        };
        Self {
            outcome: Outcome::NotApplied,
            ..failure
        }
    }

    /// A server that is too old.
    pub fn too_old(server: &str) -> Self {
        Self::new(
            Category::Config,
            Outcome::NotApplied,
            format!("the Redis server {server} is older than 7.0"),
        )
    }

    /// A failed handshake, by the word that [`tls_reason_in`] has for it.
    pub fn tls(server: &str, reason: &str) -> Self {
        Self::new(
            Category::Tls,
            Outcome::NotApplied,
            format!("no trusted TLS connection to the Redis server {server}: {reason}"),
        )
    }

    /// The errors whose meaning for a lock is known.
    fn known(error: &RedisError) -> Option<Self> {
        use Category::{Config, Full, Unavailable};
        let not_applied =
            |category, message| Some(Self::new(category, Outcome::NotApplied, message));
        match error.code()? {
            "OOM" => not_applied(Full, "the Redis server is out of memory (maxmemory)"),
            "LOADING" => not_applied(Unavailable, "the Redis server is reading its data"),
            "BUSY" | "UNKILLABLE" => {
                not_applied(Unavailable, "the Redis server is busy with a slow script")
            }
            "READONLY" => not_applied(
                Unavailable,
                "the Redis server is a replica, or its primary failed over",
            ),
            "MASTERDOWN" => not_applied(
                Unavailable,
                "the Redis server is a replica without its primary",
            ),
            "NOREPLICAS" => not_applied(
                Unavailable,
                "the Redis server has too few replicas (min-replicas-to-write)",
            ),
            "MISCONF" => not_applied(Unavailable, "the Redis server cannot write to its disk"),
            "CLUSTERDOWN" | "TRYAGAIN" => {
                not_applied(Unavailable, "the Redis Cluster does not serve this key now")
            }
            "MOVED" | "ASK" => not_applied(
                Unavailable,
                "the server is a node of a Redis Cluster and does not serve this key",
            ),
            "NOAUTH" => not_applied(
                Config,
                "the Redis server wants a password and none is configured",
            ),
            "WRONGPASS" => not_applied(
                Config,
                "the Redis server does not take the user and password",
            ),
            // A command inside a script may be forbidden, after others before it ran.
            code if code == "NOPERM" || is_forbidden_in_script(error) => Some(Self::new(
                Config,
                Outcome::Unknown,
                "the Redis user may not do what a lock needs: grant it ~pawl:* &pawl:* +@all, or see docs/backends.md",
            )),
            _ if error.kind() == ErrorKind::AuthenticationFailed => not_applied(
                Config,
                "the Redis server does not take the user and password",
            ),
            _ => None,
        }
    }

    /// The same with its cause, for the log.
    pub fn with_source(self, source: RedisError) -> BackendError {
        BackendError::from(self).with_source(source)
    }
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.category, failure.outcome, failure.message)
    }
}

/// Redis 7.0 and 7.2 have different words for it.
fn is_forbidden_in_script(error: &RedisError) -> bool {
    const WORDS: [&str; 2] = [
        "The user executing the script can't",
        "ACL failure in script",
    ];
    error
        .detail()
        .is_some_and(|detail| WORDS.iter().any(|words| detail.starts_with(words)))
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn error(line: &str) -> RedisError {
        let reply = format!("-{line}\r\n");
        parse_redis_value(reply.as_bytes())
            .unwrap()
            .extract_error()
            .unwrap_err()
    }

    #[test]
    fn errors_of_calls_are_sorted() {
        use Category::{Config, Full, Protocol, Unavailable};
        use Outcome::{NotApplied, Unknown};
        for (line, category, outcome) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Full,
                NotApplied,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                Unavailable,
                NotApplied,
            ),
            (
                "BUSY Redis is busy running a script.",
                Unavailable,
                NotApplied,
            ),
            (
                "READONLY You can't write against a read only replica.",
                Unavailable,
                NotApplied,
            ),
            (
                "MASTERDOWN Link with MASTER is down",
                Unavailable,
                NotApplied,
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Unavailable,
                NotApplied,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Unavailable,
                NotApplied,
            ),
            ("CLUSTERDOWN The cluster is down", Unavailable, NotApplied),
            (
                "TRYAGAIN Multiple keys request during rehashing",
                Unavailable,
                NotApplied,
            ),
            ("MOVED 3999 127.0.0.1:6381", Unavailable, NotApplied),
            ("ASK 3999 127.0.0.1:6381", Unavailable, NotApplied),
            ("NOAUTH Authentication required.", Config, NotApplied),
            (
                "WRONGPASS invalid username-password pair",
                Config,
                NotApplied,
            ),
            ("NOPERM this user has no permissions", Config, Unknown),
            (
                "ERR ACL failure in script: User pawl has no permissions",
                Config,
                Unknown,
            ),
            ("ERR something", Protocol, Unknown),
            ("WRONGTYPE Operation against a key", Protocol, Unknown),
            ("PAWLCLOCK the clock", Protocol, Unknown),
            ("NEWERROR nobody knows", Protocol, Unknown),
        ] {
            let failure = Failure::of_call(&error(line));
            assert_eq!(
                (failure.category, failure.outcome),
                (category, outcome),
                "{line}"
            );
        }
    }

    #[test]
    fn a_broken_connection_leaves_the_outcome_open() {
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let failure = Failure::of_call(&broken);
        assert_eq!(
            (failure.category, failure.outcome),
            (Category::Connection, Outcome::Unknown)
        );
        let failure = Failure::of_connect("redis:6379", &broken);
        assert_eq!(
            (failure.category, failure.outcome),
            (Category::Connection, Outcome::NotApplied)
        );
    }

    #[test]
    fn a_failed_handshake_is_found_at_the_bottom() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let failure = Failure::of_connect("redis:6379", &std::io::Error::other(alert).into());
        assert_eq!(failure.category, Category::Tls);
    }

    #[test]
    fn no_part_of_a_command_is_repeated() {
        let line = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `hunter2`";
        for failure in [
            Failure::of_call(&error(line)),
            Failure::of_connect("redis:6379", &error(line)),
            Failure::of_connect("redis:6379", &error(&line.replace("ERR", "NEW"))),
        ] {
            assert!(!failure.message.contains("hunter2"), "{failure:?}");
        }
    }
}
