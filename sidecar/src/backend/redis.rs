//! The backend `redis`: one Redis (7.0 and newer) or Valkey server.
//!
//! # What is kept
//! All keys of one lock are `pawl:{<scope>|<key>}` and some suffixes: one hash tag, so one slot of a cluster. The name
//! itself is a string that holds the [`HoldId`] of the exclusive holder and expires with it; beside it are shared
//! holders (`:s`), the queue (`:q`), abandoned ids (`:x`), the highest fenced token (`:f`), and a hash (`:m`) that
//! outlives the hold: the last token, who holds, whether the last holder was lost.
//!
//! # How it is used
//! * **Every call is one script**, sent as `EVALSHA` and once more as `EVAL` when the server does not know it. A cold
//!   cycle is two commands. Expiries are replicated and logged as instants, so a replica or a restart does not extend
//!   them.
//! * **Token:** the last one and 1, never below the server's clock in milliseconds. The last one is kept for
//!   [`RedisConfig::remember`] after the key's last use; after that, and after a loss of the server's memory, tokens
//!   climb because the clock does. A clock that is set back by more than that breaks this.
//! * **Queue:** ordered by the server's clock less the age that the caller brings. Under [`Order::Fifo`] a free key is
//!   only for the oldest place that is alive (asked for within its `keep`); shared places at the head have it together.
//! * **Wake-up:** scripts publish to the channel of the sidecar that is meant. Hints share the connection of the calls
//!   (RESP3 pushes). Nothing is published when nobody waits.
//! * **Abandonment** leaves a tombstone for the attempt's ttl and a minute, longer than any call can be on its way
//!   (connections give up undelivered data after 10 seconds), so one command settles it.
//! * **Replicas:** with [`RedisConfig::wait_replicas`] a grant and a renewal are answered only after that many replicas
//!   confirmed them (`WAIT`, on a connection of its own because it blocks the ones behind it). A grant that is not
//!   confirmed is taken back. This narrows the window in which a failover loses a hold; it does not close it.
//!
//! # What it does not promise
//! Class [`Class::BestEffort`]: a failover, a restart without an append-only file and a jump of the server's clock can
//! end a hold early, so that two believe. Fencing at the resource makes that harmless. See `docs/backends.md`.
//!
//! [`HoldId`]: pawl_lock::HoldId
//! [`Order::Fifo`]: pawl_lock::lease::Order::Fifo

use std::{pin::Pin, sync::Arc, time::Duration};

use pawl_lock::{
    Backend, BackendError, FencingToken, Key, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, BackendFuture, Busy,
        Category, Class, Events, FenceVerdict, Finding, Inspection, Outcome, Profile,
        ReleaseRequest, Released, RenewRequest, Renewed,
    },
    lease::Mode,
};

use super::{
    Scope,
    ear::{Ear, Hearing},
    hint,
};
use calls::{Calls, Server, channel};
pub use config::{InvalidUrl, RedisConfig};
use connection::{Connection, Link, Notice, Subscription};

pub(super) mod calls;
mod config;
pub mod connection;
pub mod errors;
pub mod probe;
pub mod reply;
pub mod scripts;

/// How long an abandoned id is remembered beyond its ttl.
pub(super) const TOMBSTONE: Duration = Duration::from_mins(1);

/// A backend on one Redis server.
pub struct Redis {
    config: RedisConfig,
    calls: Calls,
    link: Link,
    /// For calls that replicas must confirm.
    confirmed: Option<Link>,
    ear: Arc<Ear>,
}

impl Redis {
    /// A backend that connects at its first call. `process` is 64 random bits that no other sidecar has.
    ///
    /// # Errors
    /// [`InvalidUrl`] if [`RedisConfig::url`] is not one, or has a user or a password in it.
    pub fn new(config: RedisConfig, scope: Scope, process: u64) -> Result<Self, InvalidUrl> {
        let endpoint = config.endpoint()?;
        let ear: Arc<Ear> = Arc::default();
        let hearing = Arc::clone(&ear);
        let subscription = Subscription {
            channel: channel(process),
            notify: Arc::new(move |notice| match notice {
                Notice::Again => hearing.tell(BackendEvent::Resync),
                Notice::Message(message) => {
                    if let Some(event) = hint::parse(message) {
                        hearing.tell(event);
                    }
                }
            }),
        };
        let confirmed = (config.wait_replicas > 0).then(|| Link::new(endpoint.clone(), None));
        Ok(Self {
            calls: Calls::new(scope, process, config.remember, Server::Alone),
            link: Link::new(endpoint, Some(subscription)),
            confirmed,
            ear,
            config,
        })
    }

    /// The connection for calls that give or extend a hold.
    async fn granting(&self) -> Result<Arc<Connection>, BackendError> {
        self.confirmed
            .as_ref()
            .unwrap_or(&self.link)
            .connection()
            .await
    }

    /// An error while the server must not be trusted with a grant.
    fn trust(&self, connection: &Connection) -> Result<(), BackendError> {
        match probe::eviction(&connection.server(), self.config.allow_eviction) {
            Some(finding) if finding.is_fatal => Err(BackendError::new(
                Category::Unsafe,
                Outcome::NotApplied,
                finding.message,
            )),
            _ => Ok(()),
        }
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired, BackendError> {
        let connection = self.granting().await?;
        self.trust(&connection)?;
        let acquired = self.calls.acquire(&connection, request, None).await?;
        if let Acquired::Granted(_) = acquired {
            self.confirm_grant(&connection, request).await?;
        }
        Ok(acquired)
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, BackendError> {
        let connection = self.granting().await?;
        let renewed = self.calls.renew(&connection, request).await?;
        if let Renewed::Extended { .. } = renewed
            && !self.is_confirmed(&connection, request.ttl).await?
        {
            return Err(unconfirmed(Outcome::Unknown));
        }
        Ok(renewed)
    }

    async fn release(&self, request: &ReleaseRequest) -> Result<Released, BackendError> {
        let Some(next) = &request.next else {
            let connection = self.link.connection().await?;
            return self.calls.release(&connection, request, None, None).await;
        };
        let connection = self.granting().await?;
        if self.trust(&connection).is_err() {
            // The hold is let go all the same; the next attempt learns why when it asks for itself.
            let released = self.calls.release(&connection, request, None, None).await?;
            let next = Some(Acquired::Busy(Busy::default()));
            return Ok(Released { next, ..released });
        }
        let released = self
            .calls
            .release(&connection, request, Some(next), None)
            .await?;
        if let Some(Acquired::Granted(_)) = released.next {
            self.confirm_grant(&connection, next).await?;
        }
        Ok(released)
    }

    /// Takes a grant back that too few replicas know of.
    async fn confirm_grant(
        &self,
        connection: &Connection,
        request: &AcquireRequest,
    ) -> Result<(), BackendError> {
        if self.is_confirmed(connection, request.ttl).await? {
            return Ok(());
        }
        let connection = self
            .link
            .connection()
            .await
            .map_err(|_| unconfirmed(Outcome::Unknown))?;
        match self.calls.take_back(&connection, request).await {
            Ok(()) => Err(unconfirmed(Outcome::NotApplied)),
            Err(_) => Err(unconfirmed(Outcome::Unknown)),
        }
    }

    async fn is_confirmed(&self, connection: &Connection, ttl: Ttl) -> Result<bool, BackendError> {
        let wanted = self.config.wait_replicas;
        if wanted == 0 {
            return Ok(true);
        }
        let patience = self.config.replica_timeout.min(ttl.as_duration() / 4);
        Ok(connection.wait(wanted, patience).await? >= wanted)
    }

    async fn check(&self) -> Result<Vec<Finding>, BackendError> {
        let connection = self.link.connection().await?;
        connection.refresh().await?;
        let server = connection.server();
        if let Some(confirmed) = &self.confirmed {
            confirmed
                .connection()
                .await?
                .set_server(Arc::clone(&server));
        }
        let probed = self.calls.probe(&connection).await?;
        let mut findings = probe::findings(&server, &self.config);
        findings.extend(probe::clock_finding(probed.clock_millis));
        if !(probed.can_tell && connection.can_hear()) {
            findings.push(probe::hints_forbidden());
        }
        Ok(findings)
    }
}

fn unconfirmed(outcome: Outcome) -> BackendError {
    BackendError::new(
        Category::Unavailable,
        outcome,
        "too few replicas confirmed the write in time (waitReplicas)",
    )
}

impl Backend for Redis {
    fn profile(&self) -> Profile {
        Profile {
            name: "redis",
            class: Class::BestEffort,
            is_queued: true,
            min_ttl: Ttl::MIN,
            can_retain: true,
        }
    }

    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BackendFuture<'a, Acquired> {
        Box::pin(self.acquire(request))
    }

    fn renew<'a>(&'a self, request: &'a RenewRequest) -> BackendFuture<'a, Renewed> {
        Box::pin(self.renew(request))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> BackendFuture<'a, Released> {
        Box::pin(self.release(request))
    }

    fn abandon<'a>(&'a self, request: &'a AbandonRequest) -> BackendFuture<'a, Abandoned> {
        Box::pin(async {
            let connection = self.link.connection().await?;
            self.calls.abandon(&connection, request).await
        })
    }

    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection> {
        Box::pin(async {
            let connection = self.link.connection().await?;
            self.calls.inspect(&connection, key).await
        })
    }

    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict> {
        Box::pin(async move {
            let connection = self.link.connection().await?;
            self.calls.fence(&connection, key, token).await
        })
    }

    fn check(&self) -> BackendFuture<'_, Vec<Finding>> {
        Box::pin(self.check())
    }

    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let hearing = Hearing::new(Arc::clone(&self.ear), events);
        Box::pin(async move {
            let _hearing = hearing;
            self.link.keep_up().await;
        })
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.config.url)
            .finish_non_exhaustive()
    }
}

/// The letter that scripts know a mode by.
const fn letter(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "x",
        Mode::Shared => "s",
    }
}
