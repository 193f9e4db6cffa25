//! Several independent Redis servers that decide by majority.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::redis::{DATABASE, SCHEMES};
use crate::address::{self, MAX_ADDRESS, Port, User};
use crate::rule::{At, Rule, Ruled};
use crate::{ApiDuration, SecretRef, Tls};

/// Independent Redis servers that decide by majority (Redlock).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = Redlock::cel_rules()))]
pub struct Redlock {
    /// The servers: independent of each other, none a replica of another. 3 to 15, an odd number, all different.
    #[schemars(length(min = 3, max = 15), extend("x-kubernetes-list-type" = "atomic"))]
    pub nodes: Vec<RedlockNode>,
    /// How long one node may take to answer before it counts as down. 1ms to 10s, and at most a fifth of lease.ttl, since
    /// what is spent on waiting is missing from the lease. Absent: a twentieth of the ttl, between 5ms and 250ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_timeout: Option<ApiDuration>,
    /// Secret whose keys username (may be missing) and password are used to log in, the same at every node. Absent: no
    /// password. Re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// TLS to every node; it needs rediss:// URLs. rediss:// without it verifies against the public web authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// One of the servers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedlockNode {
    /// The server: redis://host:port/database, or rediss:// for TLS. Without user name, and with the port, so that the
    /// same server is not counted twice. Database 0 when left out. Up to 512 characters.
    #[schemars(length(min = 1, max = MAX_ADDRESS))]
    pub url: String,
}

impl Redlock {
    /// How long one node may take to answer an operation on a lease of this `ttl`: what the policy says, never more
    /// than a fifth of the ttl; else a twentieth of it, between 5 ms and 250 ms.
    pub fn node_timeout_for(&self, ttl: ApiDuration) -> ApiDuration {
        match self.node_timeout {
            Some(timeout) => timeout.min(ApiDuration::from_millis((ttl.as_millis() / 5).max(1))),
            None => ApiDuration::from_millis((ttl.as_millis() / 20).clamp(5, 250)),
        }
    }

    fn servers(&self) -> Vec<String> {
        let server = |node: &RedlockNode| node.url.split('/').nth(2).map(str::to_ascii_lowercase);
        self.nodes.iter().filter_map(server).collect()
    }
}

impl Ruled for Redlock {
    fn rules() -> Vec<Rule<Self>> {
        let mut rules = vec![
            Rule::new(
                "nodes",
                "size(self.nodes) % 2 == 1",
                "must be an odd number of nodes, so that there is always a majority",
                |redlock: &Self| redlock.nodes.len() % 2 == 1,
            ),
            // Host and port, whatever the database and the letters' case; an address without them is told by another rule.
            Rule::new(
                "nodes",
                "self.nodes.all(x, !x.url.contains('//') || self.nodes.exists_one(y, y.url.contains('//') && y.url.lowerAscii().split('/')[2] == x.url.lowerAscii().split('/')[2]))",
                "must be different servers: no host and port twice, also not with another database",
                |redlock: &Self| {
                    let servers = redlock.servers();
                    servers.iter().collect::<BTreeSet<_>>().len() == servers.len()
                },
            )
            .duplicate(),
        ];
        rules.extend(address::rules(
            At::EachIn("nodes", "url"),
            &address::url(SCHEMES, User::Refused, Port::Required, DATABASE),
            "must be redis://host:port or rediss://host:port each, without user name and with the port",
            |redlock: &Self| redlock.nodes.iter().map(|node| node.url.as_str()).collect(),
        ));
        rules.push(Rule::within(
            "nodeTimeout",
            ApiDuration::from_millis(1)..=ApiDuration::from_secs(10),
            |redlock: &Self| redlock.node_timeout,
        ));
        rules.push(
            Rule::new(
                "tls",
                "!has(self.tls) || self.nodes.all(x, x.url.startsWith('rediss://'))",
                "needs rediss:// URLs",
                |redlock: &Self| {
                    redlock.tls.is_none()
                        || redlock
                            .nodes
                            .iter()
                            .all(|node| node.url.starts_with("rediss://"))
                },
            )
            .forbidden(),
        );
        rules
    }
}
