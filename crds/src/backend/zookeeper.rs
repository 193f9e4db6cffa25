//! `ZooKeeper`, by ephemeral sequential nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{self, MAX_ADDRESS, Port};
use crate::rule::{At, Rule, Ruled};
use crate::{ApiDuration, SecretRef};

/// `ZooKeeper` 3.5 or newer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = Zookeeper::cel_rules()))]
pub struct Zookeeper {
    /// Servers of one ensemble, host:port each (usually port 2181). 1 to 9, all different, up to 512 characters each.
    #[schemars(
        length(min = 1, max = 9),
        inner(length(min = 1, max = MAX_ADDRESS)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub servers: Vec<String>,
    /// Path below which Pawl's nodes lie; made on first use. Starts with /, does not end with it, not below /zookeeper. 2 to
    /// 200 characters. Default /pawl.
    #[serde(default = "default_chroot")]
    #[schemars(length(min = 2, max = 200), regex(pattern = "^(/[A-Za-z0-9._-]+)+$"))]
    pub chroot: String,
    /// How long the server waits for a silent sidecar before it frees its keys. 1s to 5m, at most lease.ttl; the server
    /// itself allows 2 to 20 of its ticks, usually 4s to 40s. Default 10s.
    #[serde(default = "default_session_timeout")]
    pub session_timeout: ApiDuration,
    /// Secret whose keys username and password are used to log in (digest). Absent: none. Re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

fn default_chroot() -> String {
    "/pawl".to_owned()
}

fn default_session_timeout() -> ApiDuration {
    ApiDuration::from_secs(10)
}

impl Ruled for Zookeeper {
    fn rules() -> Vec<Rule<Self>> {
        let mut rules = address::rules(
            At::Each("servers"),
            &address::host_and_port(Port::Required),
            "must be host:port each",
            |zookeeper: &Self| zookeeper.servers.iter().map(String::as_str).collect(),
        );
        rules.extend([
            Rule::never_matching(
                At::One("chroot"),
                "(/[.][.]?(/|$)|^/zookeeper(/|$))",
                "must not have a segment . or .. and not lie below /zookeeper, which ZooKeeper keeps for itself",
                |zookeeper: &Self| vec![zookeeper.chroot.as_str()],
            ),
            Rule::within(
                "sessionTimeout",
                ApiDuration::from_secs(1)..=ApiDuration::from_secs(300),
                |zookeeper: &Self| Some(zookeeper.session_timeout),
            ),
        ]);
        rules
    }
}
