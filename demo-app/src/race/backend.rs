//! Where the race takes its locks: from `--backend` to a policy's `spec.backend`.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::wire::Target;

/// What goes into the directory of secrets, never into a policy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, if any.
    pub username: Option<String>,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A backend, as a policy names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// The policy's field: `memory`, `redis`, `redlock`, `postgres`, `etcd`, `zookeeper`.
    pub kind: &'static str,
    /// What is below it in the policy.
    pub spec: Value,
    /// How to log in.
    pub credentials: Option<Credentials>,
}

/// Why a text is not a backend. It does not repeat the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No such kind.
    #[error(
        "write memory, redis://HOST:PORT[/DB], redlock:HOST:PORT,HOST:PORT,HOST:PORT, postgres://USER@HOST/DATABASE[?mode=Row], etcd://HOST:PORT[,…] or zookeeper://HOST:PORT[,…]"
    )]
    Kind,
    /// A server's address that is none.
    #[error("a server's address is wrong; write HOST:PORT, with [ ] around an IPv6 address")]
    Address,
    /// A Redlock that cannot decide by majority.
    #[error("redlock needs an odd number of different servers, at least 3")]
    Nodes,
    /// An odd part of a URL.
    #[error(
        "the part after the address is wrong; Redis takes /0 to /99999, Postgres /DATABASE and ?mode=Advisory or ?mode=Row"
    )]
    Path,
}

impl Backend {
    /// Reads `--backend`.
    pub fn parse(text: &str) -> Result<Self, BackendError> {
        if text == "memory" {
            return Ok(Self {
                kind: "memory",
                spec: json!({}),
                credentials: None,
            });
        }
        if let Some(nodes) = text.strip_prefix("redlock:") {
            return redlock(nodes);
        }
        match text.split_once("://") {
            Some((scheme @ ("redis" | "rediss"), rest)) => redis(scheme, rest),
            Some(("postgres" | "postgresql", rest)) => postgres(rest),
            Some(("etcd", rest)) => etcd(rest),
            Some(("zookeeper", rest)) => zookeeper(rest),
            _ => Err(BackendError::Kind),
        }
    }

    /// Whether one sidecar serves all replicas, since its locks are in its own memory.
    pub fn is_shared(&self) -> bool {
        self.kind == "memory"
    }

    /// Whether waiters can be served first come, first served, across sidecars.
    pub fn has_fifo(&self) -> bool {
        self.kind != "redlock"
    }

    /// A short lease that the backend can still keep its word on.
    pub fn short_ttl(&self) -> Duration {
        match self.kind {
            // The session's timeout, of which servers allow 4 s at least.
            "zookeeper" => Duration::from_secs(4),
            _ => Duration::from_secs(2),
        }
    }
}

fn redis(scheme: &str, rest: &str) -> Result<Backend, BackendError> {
    let (credentials, user, rest) = login(rest)?;
    let (server, db) = rest
        .split_once('/')
        .map_or((rest, None), |(s, db)| (s, Some(db)));
    let db = database(db)?;
    let user = user.map(|u| format!("{u}@")).unwrap_or_default();
    let url = format!("{scheme}://{user}{}/{db}", address(server, 6379)?);
    Ok(Backend {
        kind: "redis",
        spec: with_login(json!({ "url": url }), credentials.as_ref()),
        credentials,
    })
}

fn redlock(nodes: &str) -> Result<Backend, BackendError> {
    let mut credentials = None;
    let mut urls = Vec::new();
    for node in nodes.split(',') {
        let (scheme, rest) = match node.split_once("://") {
            Some((scheme @ ("redis" | "rediss"), rest)) => (scheme, rest),
            Some(_) => return Err(BackendError::Address),
            None => ("redis", node),
        };
        let (login, user, rest) = login(rest)?;
        if user.is_some() {
            return Err(BackendError::Address);
        }
        credentials = credentials.or(login);
        let (server, db) = rest
            .split_once('/')
            .map_or((rest, None), |(s, db)| (s, Some(db)));
        urls.push(format!(
            "{scheme}://{}/{}",
            address(server, 6379)?,
            database(db)?
        ));
    }
    let mut servers: Vec<_> = urls
        .iter()
        .filter_map(|url| url.split('/').nth(2))
        .collect();
    servers.sort_unstable();
    servers.dedup();
    if servers.len() != urls.len() || urls.len() < 3 || urls.len().is_multiple_of(2) {
        return Err(BackendError::Nodes);
    }
    let nodes: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    Ok(Backend {
        kind: "redlock",
        spec: with_login(json!({ "nodes": nodes }), credentials.as_ref()),
        credentials,
    })
}

fn postgres(rest: &str) -> Result<Backend, BackendError> {
    let (credentials, user, rest) = login(rest)?;
    let (server, path) = rest.split_once('/').ok_or(BackendError::Path)?;
    let (database, query) = path.split_once('?').unwrap_or((path, ""));
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if database.is_empty() || !database.bytes().all(is_name) {
        return Err(BackendError::Path);
    }
    let mode = match query {
        "" | "mode=Advisory" | "mode=advisory" => "Advisory",
        "mode=Row" | "mode=row" => "Row",
        _ => return Err(BackendError::Path),
    };
    let user = user.map(|u| format!("{u}@")).unwrap_or_default();
    let url = format!("postgres://{user}{}/{database}", address(server, 5432)?);
    let spec = with_login(json!({ "url": url, "mode": mode }), credentials.as_ref());
    Ok(Backend {
        kind: "postgres",
        spec,
        credentials,
    })
}

fn etcd(rest: &str) -> Result<Backend, BackendError> {
    let (credentials, user, rest) = login(rest)?;
    if user.is_some() {
        return Err(BackendError::Address);
    }
    let endpoint = |server: &str| Ok(format!("http://{}", address(server, 2379)?));
    let endpoints: Vec<String> = rest
        .trim_end_matches('/')
        .split(',')
        .map(endpoint)
        .collect::<Result<_, _>>()?;
    let spec = with_login(json!({ "endpoints": endpoints }), credentials.as_ref());
    Ok(Backend {
        kind: "etcd",
        spec,
        credentials,
    })
}

fn zookeeper(rest: &str) -> Result<Backend, BackendError> {
    let (credentials, user, rest) = login(rest)?;
    if user.is_some() {
        return Err(BackendError::Address);
    }
    let (servers, chroot) = rest.split_once('/').unwrap_or((rest, ""));
    let servers: Vec<String> = servers
        .split(',')
        .map(|s| address(s, 2181))
        .collect::<Result<_, _>>()?;
    let mut spec = json!({ "servers": servers, "sessionTimeout": "4s" });
    if !chroot.is_empty() {
        spec["chroot"] = format!("/{chroot}").into();
    }
    Ok(Backend {
        kind: "zookeeper",
        spec: with_login(spec, credentials.as_ref()),
        credentials,
    })
}

/// Takes `USER:PASSWORD@` off. Without a password the user alone comes back, for the URL.
fn login(rest: &str) -> Result<(Option<Credentials>, Option<String>, &str), BackendError> {
    let Some((login, rest)) = rest.rsplit_once('@') else {
        return Ok((None, None, rest));
    };
    let plain = |s: &str| {
        percent_decode_str(s)
            .decode_utf8()
            .map(String::from)
            .map_err(|_| BackendError::Address)
    };
    match login.split_once(':') {
        Some((user, password)) => {
            let username = (!user.is_empty()).then(|| plain(user)).transpose()?;
            Ok((
                Some(Credentials {
                    username,
                    password: plain(password)?,
                }),
                None,
                rest,
            ))
        }
        None if login.is_empty() => Err(BackendError::Address),
        None => Ok((None, Some(login.to_owned()), rest)),
    }
}

/// Checks `HOST[:PORT]` and writes the port out.
fn address(server: &str, default_port: u16) -> Result<String, BackendError> {
    match Target::parse(&format!("http://{server}")) {
        Ok(Target::Tcp { host, .. }) => {
            let text = host.to_str().map_err(|_| BackendError::Address)?.to_owned();
            let after_host = text.rsplit(']').next().unwrap_or("");
            Ok(if after_host.contains(':') {
                text
            } else {
                format!("{text}:{default_port}")
            })
        }
        _ => Err(BackendError::Address),
    }
}

fn database(text: Option<&str>) -> Result<u32, BackendError> {
    match text {
        None | Some("") => Ok(0),
        Some(digits) if digits.len() <= 5 => digits.parse().map_err(|_| BackendError::Path),
        Some(_) => Err(BackendError::Path),
    }
}

fn with_login(mut spec: Value, credentials: Option<&Credentials>) -> Value {
    if credentials.is_some() {
        spec["credentialsSecretRef"] = json!({ "name": "race" });
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Backend {
        Backend::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_kind_becomes_a_policys_backend() {
        assert_eq!(parsed("memory").spec, json!({}));
        assert_eq!(
            parsed("redis://localhost").spec,
            json!({"url": "redis://localhost:6379/0"})
        );
        assert_eq!(
            parsed("rediss://[::1]:7000/3").spec,
            json!({"url": "rediss://[::1]:7000/3"})
        );
        let nodes = json!({"nodes": [{"url": "redis://a:1/0"}, {"url": "redis://b:2/0"}, {"url": "redis://c:6379/0"}]});
        assert_eq!(parsed("redlock:a:1,redis://b:2,c").spec, nodes);
        let row = json!({"url": "postgres://ann@db:5432/app", "mode": "Row"});
        assert_eq!(parsed("postgres://ann@db/app?mode=Row").spec, row);
        assert_eq!(parsed("postgres://db:6432/app").spec["mode"], "Advisory");
        assert_eq!(
            parsed("etcd://a:2379,b").spec,
            json!({"endpoints": ["http://a:2379", "http://b:2379"]})
        );
        let ensemble = json!({"servers": ["a:2181"], "sessionTimeout": "4s", "chroot": "/x"});
        assert_eq!(parsed("zookeeper://a/x").spec, ensemble);
    }

    #[test]
    fn a_password_never_reaches_the_policy_or_a_debug_text() {
        for text in [
            "redis://ann:hunt%40er2@h:1/2",
            "postgres://ann:hunt%40er2@h/app",
            "redlock:redis://ann:hunt%40er2@h:1,i:1,j:1",
        ] {
            let backend = parsed(text);
            let credentials = backend.credentials.clone().unwrap();
            assert_eq!(
                (
                    credentials.username.as_deref(),
                    credentials.password.as_str()
                ),
                (Some("ann"), "hunt@er2")
            );
            let shown = format!("{} {backend:?}", backend.spec);
            assert!(!shown.contains("er2") && !shown.contains("ann"), "{shown}");
            assert_eq!(backend.spec["credentialsSecretRef"]["name"], "race");
        }
    }

    #[test]
    fn what_is_no_backend_is_refused() {
        for (text, why) in [
            ("", BackendError::Kind),
            ("mysql://h", BackendError::Kind),
            ("redis:h:1", BackendError::Kind),
            ("redis://", BackendError::Address),
            ("redis://h:x", BackendError::Address),
            ("redis://h:1/x", BackendError::Path),
            ("redlock:a:1,b:1", BackendError::Nodes),
            ("redlock:a:1,b:1,c:1,d:1", BackendError::Nodes),
            ("redlock:a:1,b:1,a:1", BackendError::Nodes),
            ("postgres://h", BackendError::Path),
            ("postgres://h/", BackendError::Path),
            ("postgres://h/app?sslmode=off", BackendError::Path),
        ] {
            assert_eq!(Backend::parse(text), Err(why), "{text}");
        }
    }
}
