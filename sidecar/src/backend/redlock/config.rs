//! What the backend must be told.

use std::time::Duration;

use pawl_lock::{Ttl, quorum::InvalidQuorum};

use crate::backend::redis::{
    InvalidUrl, RedisConfig,
    connection::{CredentialsSource, TlsSource},
};

/// What the backend must be told.
#[derive(Clone)]
pub struct RedlockConfig {
    /// The nodes' URLs, as [`RedisConfig::url`]: an odd number from 3 to 15, all different servers.
    pub nodes: Vec<String>,
    /// Asked before each connection is made; the same at every node.
    pub credentials: CredentialsSource,
    /// Asked before each TLS connection is made. Needed for `rediss://`.
    pub tls: Option<TlsSource>,
    /// How long all nodes together have for one step of a call: whoever has not answered then counts as down. Never more
    /// than a fifth of the ttl. Absent: a twentieth of the ttl, between 5 ms and 250 ms.
    pub node_timeout: Option<Duration>,
    /// The longest ttl that anybody asks for: a node that restarted does not count until that long after.
    pub max_ttl: Ttl,
    /// Whether nodes count that may evict locks (`maxmemory-policy` other than `noeviction`).
    pub allow_eviction: bool,
    /// How long a node keeps the last token of a key after its last use.
    pub remember: Duration,
    /// How long making a connection may take, with TLS and authentication.
    pub connect_timeout: Duration,
}

/// Why nodes cannot decide together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidNodes {
    /// There are too few, too many, or an even number.
    #[error(transparent)]
    Count(#[from] InvalidQuorum),
    /// The URL of one is not one.
    #[error("node {node} (counted from 1): {source}")]
    Url {
        /// Which node, from 1.
        node: usize,
        /// What is wrong with it.
        source: InvalidUrl,
    },
    /// One server would have two votes.
    #[error("the server {server} is named twice")]
    Twice {
        /// The server.
        server: String,
    },
}

impl InvalidNodes {
    /// What kind of failure it is, for metrics.
    pub const fn category(&self) -> pawl_lock::backend::Category {
        pawl_lock::backend::Category::Config
    }
}

impl RedlockConfig {
    /// The longest that nodes are waited for when nobody said how long.
    const LONGEST: Duration = Duration::from_millis(250);
    /// The shortest.
    const SHORTEST: Duration = Duration::from_millis(5);

    /// The defaults for these nodes: no password, no TLS, ttls of up to five minutes.
    pub fn new(nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let one = RedisConfig::new("");
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            credentials: one.credentials,
            tls: None,
            node_timeout: None,
            max_ttl: Ttl::try_new(Duration::from_mins(5)).unwrap_or(Ttl::MAX),
            allow_eviction: one.allow_eviction,
            remember: one.remember,
            connect_timeout: one.connect_timeout,
        }
    }

    /// How long nodes have for a step of a call with this ttl.
    pub fn patience(&self, ttl: Ttl) -> Duration {
        let ttl = ttl.as_duration();
        match self.node_timeout {
            Some(timeout) => timeout.min(ttl / 5),
            None => (ttl / 20).clamp(Self::SHORTEST, Self::LONGEST),
        }
    }

    /// How long they have for a step of a call without one.
    pub fn patience_without_ttl(&self) -> Duration {
        self.node_timeout.unwrap_or(Self::LONGEST)
    }

    /// One node as a server of its own.
    pub(super) fn node(&self, url: &str) -> RedisConfig {
        RedisConfig {
            credentials: self.credentials.clone(),
            tls: self.tls.clone(),
            connect_timeout: self.connect_timeout,
            ..RedisConfig::new(url)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_little_time_against_the_ttl() {
        let mut config = RedlockConfig::new(["redis://a"]);
        let patience = |config: &RedlockConfig, millis| {
            config.patience(Ttl::try_new(Duration::from_millis(millis)).unwrap())
        };
        assert_eq!(patience(&config, 100), Duration::from_millis(5));
        assert_eq!(patience(&config, 2_000), Duration::from_millis(100));
        assert_eq!(patience(&config, 60_000), Duration::from_millis(250));
        config.node_timeout = Some(Duration::from_secs(1));
        assert_eq!(patience(&config, 2_000), Duration::from_millis(400));
        assert_eq!(patience(&config, 60_000), Duration::from_secs(1));
    }
}
