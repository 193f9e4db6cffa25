//! `PostgreSQL`, by advisory locks or by rows of a table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{self, MAX_ADDRESS, Port, User};
use crate::rule::{At, Rule, Ruled};
use crate::{SecretRef, Tls};

/// How a lock is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum PostgresMode {
    /// By an advisory lock of the session.
    #[default]
    Advisory,
    /// By a row of a table.
    Row,
}

/// `PostgreSQL` 12 or newer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = Postgres::cel_rules()))]
pub struct Postgres {
    /// The server and database: postgres://host:port/database. Port 5432 when left out. A user name may stand before the
    /// host, a password may not: it belongs into the Secret. No parameters. Up to 512 characters.
    #[schemars(length(min = 1, max = MAX_ADDRESS))]
    pub url: String,
    /// How a lock is kept: Advisory (an advisory lock of one pinned connection a sidecar; freed at once when the connection
    /// ends; needs a direct connection or a session pooler, and lease.ttl of 2s or more) or Row (a row with an expiry by
    /// the server's clock; works behind a transaction pooler). Default Advisory.
    #[serde(default)]
    pub mode: PostgresMode,
    /// Schema of Pawl's tables; made on first use where the user may. 1 to 63 characters of lower-case letters, digits and
    /// _, not starting with a digit or pg_. Default pawl.
    #[serde(default = "default_schema")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z_][a-z0-9_]*$"))]
    pub schema: String,
    /// Secret whose keys username (may be missing) and password are used to log in; its username wins over the URL's.
    /// Absent: no password. Re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// TLS to the server, verified in full. Absent: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn default_schema() -> String {
    "pawl".to_owned()
}

impl Ruled for Postgres {
    fn rules() -> Vec<Rule<Self>> {
        let mut rules = address::rules(
            At::One("url"),
            &address::url(
                "postgres(ql)?",
                User::Allowed,
                Port::Optional,
                "/[A-Za-z0-9_-]{1,63}",
            ),
            "must be postgres://host:port/database, without parameters",
            |postgres: &Self| vec![postgres.url.as_str()],
        );
        rules.push(
            Rule::new(
                "schema",
                "!self.schema.startsWith('pg_')",
                "must not start with pg_, which PostgreSQL keeps for itself",
                |postgres: &Self| !postgres.schema.starts_with("pg_"),
            )
            .forbidden(),
        );
        rules
    }
}
