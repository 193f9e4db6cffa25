//! Connections to one Redis server: made when they are needed, one at a time, with backoff.
//!
//! A [`Link`] stands for a server and has at most one [`Connection`], which all calls share: they are written one
//! after another and answered in that order, so a call whose caller gave up costs the others nothing. When it breaks,
//! the next call (or [`Link::keep_up`]) makes a new one; while the backoff after a failed try lasts, calls fail at once
//! with its reason. Sockets are therefore bounded: one, and one that is being made.
//!
//! Nothing here knows of locks, so that other backends on Redis servers use it too.

use std::{sync::Arc, time::Duration};

use pawl_kit::secrets::Secret;

use super::errors::Failure;

pub use invocation::Invocation;
pub use link::Link;
pub use live::Connection;

mod dial;
mod invocation;
mod link;
mod live;

/// How long a connection may be silent with a call unanswered before it is given up for a new one.
pub const STALLED_AFTER: Duration = Duration::from_secs(10);

/// A user and a password.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The ACL user; `default` if there is none.
    pub username: Option<String>,
    /// The password; no authentication if there is none.
    pub password: Option<Secret>,
}

/// Where something comes from that may be another one each time, or cannot be had just now.
type Source<T> = dyn Fn() -> Result<T, Failure> + Send + Sync;

/// Where credentials come from, asked before each connection.
#[derive(Clone)]
pub struct CredentialsSource(Arc<Source<Credentials>>);

/// Where the TLS configuration comes from, asked before each connection.
#[derive(Clone)]
pub struct TlsSource(Arc<Source<Arc<rustls::ClientConfig>>>);

impl CredentialsSource {
    /// Credentials. The failure's category should be [`Category::Config`](pawl_lock::backend::Category::Config).
    pub fn new(source: impl Fn() -> Result<Credentials, Failure> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// No authentication.
    pub fn none() -> Self {
        Self::new(|| Ok(Credentials::default()))
    }

    fn get(&self) -> Result<Credentials, Failure> {
        (self.0)()
    }
}

impl TlsSource {
    /// A configuration. The failure's category should be [`Category::Tls`](pawl_lock::backend::Category::Tls).
    pub fn new(
        source: impl Fn() -> Result<Arc<rustls::ClientConfig>, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(source))
    }

    fn get(&self) -> Result<Arc<rustls::ClientConfig>, Failure> {
        (self.0)()
    }
}

/// A server and how to get there.
#[derive(Clone)]
pub struct Endpoint {
    /// Its DNS name or address, which is also the name that its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database to use.
    pub database: i64,
    /// TLS, if it is to be used.
    pub tls: Option<TlsSource>,
    /// Who we are.
    pub credentials: CredentialsSource,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
}

impl Endpoint {
    /// The server as messages name it.
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A channel to hear.
#[derive(Clone)]
pub struct Subscription {
    /// The channel.
    pub channel: String,
    /// Told what comes, from the connection's task: it must not block.
    pub notify: Arc<dyn Fn(Notice<'_>) + Send + Sync>,
}

/// What a subscription brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice<'a> {
    /// A message.
    Message(&'a [u8]),
    /// The subscription stands again after it was broken: messages may have been lost.
    Again,
}
