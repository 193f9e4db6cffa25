//! etcd, by leases and transactions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{self, MAX_ADDRESS, Port, User};
use crate::rule::{At, Rule, Ruled};
use crate::{SecretRef, Tls};

/// etcd 3.4 or newer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = Etcd::cel_rules()))]
pub struct Etcd {
    /// Client URLs of the members of one cluster: http://host:port, or https:// for TLS. Port 2379 when left out. 1 to 9, all
    /// different, up to 512 characters each.
    #[schemars(
        length(min = 1, max = 9),
        inner(length(min = 1, max = MAX_ADDRESS)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub endpoints: Vec<String>,
    /// Secret whose keys username and password are used to log in. Absent: none. Re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// TLS to the members; it needs https:// endpoints. https:// without it verifies against the public web authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Ruled for Etcd {
    fn rules() -> Vec<Rule<Self>> {
        let mut rules = address::rules(
            At::Each("endpoints"),
            &address::url("https?", User::Refused, Port::Optional, ""),
            "must be http://host:port or https://host:port each",
            |etcd: &Self| etcd.endpoints.iter().map(String::as_str).collect(),
        );
        rules.push(
            Rule::new(
                "tls",
                "!has(self.tls) || self.endpoints.all(x, x.startsWith('https://'))",
                "needs https:// endpoints",
                |etcd: &Self| {
                    etcd.tls.is_none()
                        || etcd.endpoints.iter().all(|url| url.starts_with("https://"))
                },
            )
            .forbidden(),
        );
        rules
    }
}
