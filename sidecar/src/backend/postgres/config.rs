//! What the backend must be told.

use std::{error::Error as StdError, fmt, path::Path, sync::Arc, time::Duration};

use pawl_lock::{Instant, Ttl};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::backend::Scope;

/// The configuration of a [`super::Postgres`].
#[derive(Clone)]
pub struct PostgresConfig {
    /// Which server and database.
    pub endpoint: Endpoint,
    /// How holds are kept.
    pub mode: PostgresMode,
    /// Where the tables are.
    pub schema: SchemaName,
    /// What keeps this policy's keys apart from others'.
    pub scope: Scope,
    /// The sidecar's name, which a database administrator sees in `pg_stat_activity` as `pawl/<identity>`.
    pub identity: String,
    /// The policy's ttl. How soon a silent connection is given up follows from it; a longer ttl of a single request
    /// is allowed for at the server, see [`super`].
    pub ttl: Ttl,
    /// Read at every connect, so that a rotated password is found.
    pub credentials: CredentialsSource,
    /// The client's side of TLS, read at every connect; nothing for a connection without TLS. Never both: a server
    /// that does not speak TLS when this is set is an error.
    pub tls: Option<TlsSource>,
    /// The boot clock, `pawl_kit::clock` in the sidecar.
    pub now: Now,
}

/// The clock for lock decisions: the time since boot.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Why a file could not be used. Its text holds no secret.
pub type SourceError = Box<dyn StdError + Send + Sync>;

/// Where user name and password come from.
pub type CredentialsSource = Arc<dyn Fn() -> Result<Credentials, SourceError> + Send + Sync>;

/// Where the client's TLS configuration (roots, client certificate) comes from.
pub type TlsSource = Arc<dyn Fn() -> Result<rustls::ClientConfig, SourceError> + Send + Sync>;

/// How holds are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PostgresMode {
    /// As advisory locks of one pinned session: free as soon as the sidecar's process ends. Needs a connection of its
    /// own to the server, without a transaction pooler in between.
    Advisory,
    /// As rows that expire by the server's clock. Works through a transaction pooler.
    Row,
}

/// A user name and a password, either of which may be missing (client certificates, trust). Never shown.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The role; without it the URL's user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Servers and a database: `postgres://[user@]host[:port][,host[:port]…]/database`. With several hosts, the one that
/// takes writes is used.
#[derive(Clone)]
pub struct Endpoint {
    config: tokio_postgres::Config,
    shown: String,
}

/// Why a text is not an [`Endpoint`]. Never repeats the text, which may have a password in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Not a URL of this kind.
    #[error("it is not of the form postgres://host:5432/database")]
    Form,
    /// A password.
    #[error("it has a password in it: put it into the policy's Secret")]
    Password,
    /// No host.
    #[error("it names no host")]
    Host,
    /// `sslmode` and the like, which the policy's `tls` says.
    #[error("it has the parameter sslmode or sslnegotiation: set the policy's tls instead")]
    Tls,
    /// Parameters that would undo what the backend sets itself.
    #[error("it has parameters; only target_session_attrs and load_balance_hosts are allowed")]
    Parameter,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`InvalidEndpoint`], without a part of the URL in it.
    pub fn try_new(url: &str) -> Result<Self, InvalidEndpoint> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(InvalidEndpoint::Form);
        }
        if let Some((_, query)) = url.split_once('?') {
            for parameter in query.split('&') {
                match parameter.split('=').next() {
                    Some("target_session_attrs" | "load_balance_hosts") => {}
                    Some("sslmode" | "sslnegotiation") => return Err(InvalidEndpoint::Tls),
                    Some("password") => return Err(InvalidEndpoint::Password),
                    _ => return Err(InvalidEndpoint::Parameter),
                }
            }
        }
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| InvalidEndpoint::Form)?;
        if config.get_password().is_some() {
            return Err(InvalidEndpoint::Password);
        }
        if config.get_hosts().is_empty() {
            return Err(InvalidEndpoint::Host);
        }
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let shown = shown(&config);
        Ok(Self { config, shown })
    }

    /// The driver's configuration for one connect.
    pub(super) fn driver(&self, settings: &PostgresConfig) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        let silence = super::connection::silence(settings.ttl);
        config
            .application_name(application_name(&settings.identity))
            .ssl_mode(if settings.tls.is_some() {
                SslMode::Require
            } else {
                SslMode::Disable
            })
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives(true)
            .keepalives_idle((silence / 2).max(Duration::from_secs(1)))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            .tcp_user_timeout(silence);
        config
    }

    /// The user that the URL names.
    pub(super) fn user(&self) -> Option<&str> {
        self.config.get_user()
    }
}

/// How long a TCP connect to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

fn shown(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().unwrap_or(""))
}

/// `pawl/<identity>`, cut to what the server keeps of it.
fn application_name(identity: &str) -> String {
    let printable = identity.chars().filter(char::is_ascii_graphic);
    "pawl/".chars().chain(printable).take(63).collect()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

/// The name of the schema that Pawl's tables are in: 1 to 63 bytes of `[a-z0-9_]`, not starting with a digit or `pg_`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaName(String);

/// A text that is not a [`SchemaName`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a schema's name has 1 to 63 bytes of [a-z0-9_] and starts with neither a digit nor \"pg_\""
)]
pub struct InvalidSchemaName;

impl SchemaName {
    /// A schema's name.
    ///
    /// # Errors
    /// [`InvalidSchemaName`].
    pub fn try_new(name: &str) -> Result<Self, InvalidSchemaName> {
        let is_allowed = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let is_free = !name.starts_with("pg_") && !name.starts_with(|c: char| c.is_ascii_digit());
        if (1..=63).contains(&name.len()) && is_allowed && is_free {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidSchemaName)
        }
    }

    /// The name as SQL writes it.
    pub fn quoted(&self) -> String {
        // Safe because of the alphabet, which has no quote.
        format!("\"{}\"", self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("pawl".to_owned())
    }
}

/// Reads a file that holds one value, without the line's end.
///
/// # Errors
/// If the file cannot be read or is not text; names the file, not what is in it.
pub fn read_value(path: &Path) -> Result<String, SourceError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {}", path.display(), error.kind()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_its_user() {
        let endpoint = Endpoint::try_new("postgres://app@db:6543,db2/app").unwrap();
        assert_eq!(endpoint.to_string(), "db:6543,db2:5432/app");
        assert_eq!(format!("{endpoint:?}"), "\"db:6543,db2:5432/app\"");
        assert_eq!(endpoint.user(), Some("app"));
    }

    #[test]
    fn an_endpoint_has_no_secret_and_no_setting() {
        for (url, why) in [
            ("redis://db", InvalidEndpoint::Form),
            ("host=db", InvalidEndpoint::Form),
            ("postgres://a:secret@db/app", InvalidEndpoint::Password),
            ("postgres://db/app?password=x", InvalidEndpoint::Password),
            ("postgres://db/app?sslmode=disable", InvalidEndpoint::Tls),
            (
                "postgres://db/app?options=-cfsync%3Doff",
                InvalidEndpoint::Parameter,
            ),
            ("postgres:///app", InvalidEndpoint::Host),
        ] {
            assert_eq!(Endpoint::try_new(url).map(|_| ()), Err(why), "{url}");
        }
    }

    #[test]
    fn a_schema_name_needs_no_escape() {
        for good in ["pawl", "_x", "a1_b"] {
            assert_eq!(SchemaName::try_new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "Pawl",
            "1a",
            "pg_x",
            "a\"b",
            "a.b",
            "ä",
            &"x".repeat(64),
        ] {
            assert_eq!(SchemaName::try_new(bad), Err(InvalidSchemaName), "{bad:?}");
        }
    }

    #[test]
    fn the_application_name_is_short_and_printable() {
        assert_eq!(application_name("web-0"), "pawl/web-0");
        assert_eq!(application_name(&"x".repeat(100)).len(), 63);
        assert_eq!(application_name("a\n b\u{e4}"), "pawl/ab");
    }

    #[test]
    fn credentials_are_not_shown() {
        let credentials = Credentials {
            username: Some("app".into()),
            password: Some("hunter2".into()),
        };
        assert_eq!(format!("{credentials:?}"), "Credentials(…)");
    }
}
