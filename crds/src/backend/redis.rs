//! One Redis or Valkey, in any of its three topologies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{self, MAX_ADDRESS, Port, User};
use crate::rule::{At, Rule, Ruled};
use crate::{SecretRef, Tls};

/// Path of a Redis URL: the number of the database.
pub(crate) const DATABASE: &str = "(/[0-9]{0,5})?";
pub(crate) const SCHEMES: &str = "rediss?";

/// What to do when the server may evict keys, and so forget locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Eviction {
    /// Grant nothing while `maxmemory-policy` is other than `noeviction`.
    #[default]
    Refuse,
    /// Take the risk; the condition says so.
    Allow,
}

/// One Redis or Valkey. Exactly one of url, sentinel and cluster says where it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Redis::cel_rules()))]
pub struct Redis {
    /// A standalone server: redis://host:port/database, or rediss:// for TLS. Port 6379 and database 0 when left out. A
    /// user name may stand before the host, a password may not: it belongs into the Secret. Up to 512 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ADDRESS))]
    pub url: Option<String>,
    /// A primary that Redis Sentinel finds and replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<RedisSentinel>,
    /// A Redis Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<RedisCluster>,
    /// Secret whose keys username (may be missing) and password are used to log in. Absent: no password. Re-read when it
    /// changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// TLS to the server. With url it needs a rediss:// URL, and rediss:// without it verifies against the public web
    /// authorities; with sentinel and cluster it is what switches TLS on, also to the Sentinels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How many replicas must confirm a lock (WAIT) before it is granted; with fewer it is taken back and refused with 503.
    /// 0 to 5. Default 0: none, and a failover may forget locks.
    #[schemars(range(min = 0, max = 5))]
    pub wait_replicas: u32,
    /// What to do when the server may evict keys, and so forget locks (maxmemory-policy other than noeviction): Refuse
    /// (grant nothing and say so) or Allow (take the risk and say so). Default Refuse.
    pub eviction: Eviction,
}

/// A primary that Redis Sentinel finds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = RedisSentinel::cel_rules()))]
pub struct RedisSentinel {
    /// Name of the primary, as in the Sentinels' configuration. 1 to 128 characters of letters, digits, dot,
    /// underscore and hyphen.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub master_name: String,
    /// The Sentinels, host:port each (usually port 26379). 1 to 15, all different.
    #[schemars(
        length(min = 1, max = 15),
        inner(length(min = 1, max = MAX_ADDRESS)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub nodes: Vec<String>,
    /// Number of the database at the primary. 0 to 99999. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 99_999))]
    pub database: u32,
    /// Secret whose keys username (may be missing) and password are used to log in at the Sentinels. Absent: no password
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// A Redis Cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = RedisCluster::cel_rules()))]
pub struct RedisCluster {
    /// Nodes to ask first for the rest of the cluster, host:port each. 1 to 15, all different.
    #[schemars(
        length(min = 1, max = 15),
        inner(length(min = 1, max = MAX_ADDRESS)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub nodes: Vec<String>,
}

/// Which of the three it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RedisTopology<'a> {
    /// A URL.
    Standalone(&'a str),
    /// Found through Sentinels.
    Sentinel(&'a RedisSentinel),
    /// A cluster.
    Cluster(&'a RedisCluster),
}

impl Redis {
    /// Which of the three it is. Always `Some` in a validated policy; `None` when none or several are set.
    pub fn topology(&self) -> Option<RedisTopology<'_>> {
        match (&self.url, &self.sentinel, &self.cluster) {
            (Some(url), None, None) => Some(RedisTopology::Standalone(url)),
            (None, Some(sentinel), None) => Some(RedisTopology::Sentinel(sentinel)),
            (None, None, Some(cluster)) => Some(RedisTopology::Cluster(cluster)),
            _ => None,
        }
    }

    /// Is the connection encrypted?
    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
            || self
                .url
                .as_deref()
                .is_some_and(|url| url.starts_with("rediss://"))
    }
}

impl Ruled for Redis {
    fn rules() -> Vec<Rule<Self>> {
        let mut rules = vec![Rule::whole(
            "(has(self.url) ? 1 : 0) + (has(self.sentinel) ? 1 : 0) + (has(self.cluster) ? 1 : 0) == 1",
            "must have exactly one of url, sentinel, cluster",
            |redis: &Self| redis.topology().is_some(),
        )];
        rules.extend(address::rules(
            At::Optional("url"),
            &address::url(SCHEMES, User::Allowed, Port::Optional, DATABASE),
            "must be redis://host:port/database or rediss://host:port/database",
            |redis: &Self| redis.url.iter().map(String::as_str).collect(),
        ));
        rules.push(
            Rule::new(
                "tls",
                "!has(self.tls) || !has(self.url) || self.url.startsWith('rediss://')",
                "needs a rediss:// URL",
                |redis: &Self| {
                    redis.tls.is_none()
                        || redis
                            .url
                            .as_deref()
                            .is_none_or(|url| url.starts_with("rediss://"))
                },
            )
            .forbidden(),
        );
        rules
    }
}

fn node_rules<T: 'static>(get: fn(&T) -> Vec<&str>) -> Vec<Rule<T>> {
    address::rules(
        At::Each("nodes"),
        &address::host_and_port(Port::Required),
        "must be host:port each",
        get,
    )
}

impl Ruled for RedisSentinel {
    fn rules() -> Vec<Rule<Self>> {
        node_rules(|sentinel: &Self| sentinel.nodes.iter().map(String::as_str).collect())
    }
}

impl Ruled for RedisCluster {
    fn rules() -> Vec<Rule<Self>> {
        node_rules(|cluster: &Self| cluster.nodes.iter().map(String::as_str).collect())
    }
}
