//! What the backend must be told.

use std::time::Duration;

use super::connection::{CredentialsSource, Endpoint, TlsSource};

/// What the backend must be told.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://host:port/database` or, for TLS, `rediss://…`; the port is 6379 and the database 0 if they are not
    /// there. Neither user nor password may be in it.
    pub url: String,
    /// Asked before each connection is made, so that a password that changed is used.
    pub credentials: CredentialsSource,
    /// Asked before each TLS connection is made. Needed for `rediss://`; there is no way back to plain text.
    pub tls: Option<TlsSource>,
    /// How many replicas must have a grant or renewal before it is answered.
    pub wait_replicas: u32,
    /// How long they may take, at most; never more than a quarter of the ttl.
    pub replica_timeout: Duration,
    /// Whether locks are given although the server may evict them (`maxmemory-policy` other than `noeviction`).
    pub allow_eviction: bool,
    /// How long the last token of a key is kept after its last use. Tokens climb over any step back of the server's
    /// clock that is smaller.
    pub remember: Duration,
    /// How long making a connection may take, with TLS and authentication.
    pub connect_timeout: Duration,
}

/// Why a URL is not one of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidUrl {
    /// It cannot be taken apart.
    #[error("it is not redis://host:port/database")]
    Form,
    /// The scheme is another.
    #[error("its scheme is neither redis nor rediss")]
    Scheme,
    /// Secrets do not belong into policies.
    #[error("it has a user or a password in it; use credentialsSecretRef")]
    Credentials,
    /// It says TLS but no TLS configuration is there.
    #[error("it asks for TLS, which is not configured")]
    NoTls,
}

impl RedisConfig {
    /// The defaults for a server: no password, no TLS, no waiting for replicas.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: CredentialsSource::none(),
            tls: None,
            wait_replicas: 0,
            replica_timeout: Duration::from_millis(500),
            allow_eviction: false,
            remember: Duration::from_hours(24),
            connect_timeout: Duration::from_secs(2),
        }
    }

    /// The server's address and how to get there.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn endpoint(&self) -> Result<Endpoint, InvalidUrl> {
        let url: http::Uri = self.url.parse().map_err(|_| InvalidUrl::Form)?;
        let is_tls = match url.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            Some(_) => return Err(InvalidUrl::Scheme),
            None => return Err(InvalidUrl::Form),
        };
        let authority = url.authority().ok_or(InvalidUrl::Form)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::Credentials);
        }
        if url.query().is_some() {
            return Err(InvalidUrl::Form);
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let port = match authority.port() {
            None => 6379,
            Some(port) => port.as_u16(),
        };
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| InvalidUrl::Form)?,
        };
        if host.is_empty() || port == 0 || !(0..=i64::from(u16::MAX)).contains(&database) {
            return Err(InvalidUrl::Form);
        }
        let tls = match (is_tls, &self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.clone()),
            (true, None) => return Err(InvalidUrl::NoTls),
        };
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            database,
            tls,
            credentials: self.credentials.clone(),
            connect_timeout: self.connect_timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(String, u16, i64), InvalidUrl> {
        let endpoint = RedisConfig::new(url).endpoint()?;
        Ok((endpoint.host, endpoint.port, endpoint.database))
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, expected) in [
            ("redis://redis", ("redis", 6379, 0)),
            ("redis://redis:7000/3", ("redis", 7000, 3)),
            ("redis://10.0.0.1:6379/", ("10.0.0.1", 6379, 0)),
            ("redis://[::1]:6380/15", ("::1", 6380, 15)),
        ] {
            let (host, port, database) = expected;
            assert_eq!(parse(url), Ok((host.to_owned(), port, database)), "{url}");
        }
    }

    #[test]
    fn others_are_refused() {
        for (url, why) in [
            ("", InvalidUrl::Form),
            ("redis", InvalidUrl::Form),
            ("redis://", InvalidUrl::Form),
            ("redis://host:0", InvalidUrl::Form),
            ("redis://host/one", InvalidUrl::Form),
            ("redis://host/-1", InvalidUrl::Form),
            ("redis://host?db=1", InvalidUrl::Form),
            ("http://host", InvalidUrl::Scheme),
            ("redis://:secret@host", InvalidUrl::Credentials),
            ("redis://user@host", InvalidUrl::Credentials),
            ("rediss://host", InvalidUrl::NoTls),
        ] {
            assert_eq!(parse(url), Err(why), "{url}");
        }
    }
}
