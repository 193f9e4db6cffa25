//! The backend `postgres`, in two modes over one set of tables and functions.
//!
//! * **Advisory**: one pinned connection is a *session* at the server and takes `pg_try_advisory_lock` on a 64-bit hash
//!   of schema, scope and key. The lock excludes other sessions, and ends with the session; a row beside it says whose
//!   it is, carries the token, and excludes other attempts of the same session.
//! * **Row**: the row alone excludes, until it expires by the server's clock. It needs no session, so it works through
//!   a transaction pooler.
//!
//! # Invariants
//! * Every call is one statement, hence one transaction and one round trip. It locks the key's row before it looks at
//!   anything else, so the calls of a key follow one another, and reads the clock after that.
//! * A grant and its token are durable (`synchronous_commit`) before they are answered.
//! * A hold that expired by the server's clock has ended, in both modes. The holder's deadline is earlier, as long as
//!   the server's clock is slewed and not stepped forward by more than what is left of the ttl.
//! * In mode Advisory nobody is granted a key whose lock another session has. A session whose hold is overdue by half a
//!   second (a stopped sidecar: a live one lets go itself, see `reap`) is ended by the first who wants the key, exactly
//!   the recorded process (pid and start), and only then is its lock free.
//! * A connection that broke is told as lost before another is made, and what was granted in it is never confirmed
//!   again.
//! * An acquire carries the latest instant at which it may be granted, and an abandonment leaves a tombstone that
//!   outlives it: so an abandoned attempt is settled at once.
//!
//! # Silent partitions (Advisory)
//! The server must end the session just after the ttl of its longest hold, and never before the deadline `D` of the
//! holder, which is less than a ttl after the last call that extended the hold was *sent*. The server counts from
//! what it *received* last, which is that call or something later. With `tcp_user_timeout` = ttl (at least 2 s) it ends
//! the session no earlier than a ttl after that, so after `D`. It notices when its keepalive probes go unanswered,
//! and these start `ttl - 2 s` after the last packet, one a second: at the latest a second after the ttl. Where there
//! is no `tcp_user_timeout`, three probes from there end it between ttl and ttl + 1 s too. These are settings of the
//! session, raised by the first call with a longer ttl and not lowered again.
//!
//! # Must not depend on
//! A `LockPolicy`; session state in mode Row.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pawl_lock::{
    Backend, BackendError, FencingToken, Instant, Key, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendFuture, Class, Events,
        FenceVerdict, Finding, Inspection, Outcome, Profile, ReleaseRequest, Released,
        RenewRequest, Renewed,
    },
};

use advisory::{Pending, Reaper};
use calls::{Answer, Caller};
use connection::Live;
use errors::Failure;
use link::{Common, Link};

pub use config::{
    Credentials, CredentialsSource, Endpoint, InvalidEndpoint, InvalidSchemaName, Now,
    PostgresConfig, PostgresMode, SchemaName, SourceError, TlsSource, read_value,
};
pub use schema::{grants_sql, schema_sql};

mod advisory;
mod calls;
mod config;
mod connection;
mod errors;
mod link;
mod listen;
mod probe;
mod schema;
mod upkeep;

/// How many connections mode Row has: one would make each key wait for the commits of all others.
const ROW_CONNECTIONS: usize = 2;

/// One sidecar's end of a Postgres database, bound to a scope.
///
/// It has one connection in mode Advisory, two in mode Row. Dropping it closes them.
pub struct Postgres {
    common: Arc<Common>,
    links: Vec<Link>,
    reaper: Reaper,
    /// Until when (nanoseconds since boot) this sidecar may have places in queues.
    waits_until: AtomicU64,
}

impl Postgres {
    /// A backend, which starts to connect in the background.
    ///
    /// Must be called in a tokio runtime.
    pub fn new(config: PostgresConfig) -> Self {
        let connections = match config.mode {
            PostgresMode::Advisory => 1,
            PostgresMode::Row => ROW_CONNECTIONS,
        };
        let common = Arc::new(Common::new(config));
        let links = (0..connections)
            .map(|index| Link::start(common.clone(), index == 0))
            .collect();
        Self {
            common,
            links,
            reaper: Reaper::default(),
            waits_until: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Instant {
        (self.common.config.now)()
    }

    /// The connection that the calls of a key go over, always the same one.
    fn link(&self, key: &Key) -> &Link {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        let links = u64::try_from(self.links.len()).unwrap_or(1);
        &self.links[usize::try_from(hash % links).unwrap_or(0)]
    }

    fn caller<'a>(&'a self, live: &'a Live, is_doubted: bool) -> Caller<'a> {
        Caller {
            live,
            scope: self.common.config.scope.as_str(),
            channel: &self.common.channel,
            is_doubted,
        }
    }

    /// What a failure is to the caller.
    fn fail(&self, failure: Failure) -> BackendError {
        let outcome = failure.outcome();
        failure.into_error(&self.common.config.endpoint.to_string(), outcome)
    }

    /// Who makes a call that may change a key's lock. Followed by [`Self::finish`], unless it is dropped.
    fn begin<'a>(&'a self, key: &Key, live: &'a Live) -> (Caller<'a>, Option<Pending>) {
        let pending = live.session.as_ref().map(|session| session.send(key));
        let is_doubted = pending.is_some_and(|pending| pending.is_doubted);
        (self.caller(live, is_doubted), pending)
    }

    /// Takes the answer of such a call.
    async fn finish<T>(
        &self,
        key: &Key,
        (caller, pending): (Caller<'_>, Option<Pending>),
        answer: Result<Answer<T>, Failure>,
    ) -> Result<T, BackendError> {
        match answer {
            Ok(Answer::Good(answer)) => {
                if let (Some(session), Some(pending)) = (&caller.live.session, pending) {
                    session.answered(key, pending);
                }
                Ok(answer)
            }
            Ok(Answer::Moved) => {
                self.common.found_moved(caller.live);
                let finding = probe::pooler(self.common.config.mode);
                Err(self.fail(Failure::Unsafe(finding)))
            }
            Err(failure) => {
                let mut outcome = failure.outcome();
                if let (Some(session), Some(pending)) = (&caller.live.session, pending) {
                    if !failure.is_at_server() {
                        session.did_nothing(key, pending);
                    } else if self.is_settled(key, caller).await {
                        session.settled(key, pending);
                    } else {
                        outcome = Outcome::Unknown;
                    }
                }
                let server = self.common.config.endpoint.to_string();
                Err(failure.into_error(&server, outcome))
            }
        }
    }

    /// Undoes what a call that failed did to the session's locks. If this fails too, the next call of the key does it.
    async fn is_settled(&self, key: &Key, caller: Caller<'_>) -> bool {
        let settled = self.common.calls.settle(caller, key).await;
        matches!(settled, Ok(Answer::Good(())))
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired, BackendError> {
        let live = self.link(&request.key).for_call().await?;
        self.foresee(request);
        let sent = self.begin(&request.key, &live);
        let answer = self.common.calls.acquire(sent.0, request).await;
        self.finish(&request.key, sent, answer).await
    }

    /// Plans what must follow if the request is granted, or waits.
    fn foresee(&self, request: &AcquireRequest) {
        let now = self.now();
        if self.common.config.mode == PostgresMode::Advisory {
            self.reaper
                .plan(now.saturating_add(request.ttl.as_duration()));
        }
        if let Some(place) = request.place {
            let until = now.saturating_add(place.keep).as_nanos();
            self.waits_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, BackendError> {
        let live = self.link(&request.key).for_call().await?;
        let caller = self.caller(&live, false);
        match self.common.calls.renew(caller, request).await {
            Ok(Answer::Good(renewed)) => Ok(renewed),
            Ok(Answer::Moved) => {
                self.common.found_moved(&live);
                Ok(Renewed::NotOwner)
            }
            Err(failure) => Err(self.fail(failure)),
        }
    }

    async fn release(&self, request: &ReleaseRequest) -> Result<Released, BackendError> {
        let live = self.link(&request.key).for_call().await?;
        let together = request.next.as_ref().filter(|next| next.key == request.key);
        if let Some(next) = together {
            self.foresee(next);
        }
        let sent = self.begin(&request.key, &live);
        let answer = match together {
            Some(next) => self.common.calls.release_next(sent.0, request, next).await,
            None => self.common.calls.release(sent.0, request).await,
        };
        let mut released = self.finish(&request.key, sent, answer).await?;
        if let (Some(next), None) = (&request.next, together) {
            released.next = Some(self.acquire(next).await?);
        }
        Ok(released)
    }

    async fn abandon(&self, request: &AbandonRequest) -> Result<Abandoned, BackendError> {
        let live = self.link(&request.key).for_call().await?;
        let sent = self.begin(&request.key, &live);
        let answer = self.common.calls.abandon(sent.0, request).await;
        self.finish(&request.key, sent, answer).await?;
        Ok(Abandoned::Settled)
    }

    async fn inspect(&self, key: &Key) -> Result<Inspection, BackendError> {
        let live = self.link(key).for_call().await?;
        let caller = self.caller(&live, false);
        let inspected = self.common.calls.inspect(caller, key).await;
        inspected.map_err(|failure| self.fail(failure))
    }

    async fn fence(&self, key: &Key, token: FencingToken) -> Result<FenceVerdict, BackendError> {
        let live = self.link(key).for_call().await?;
        let caller = self.caller(&live, false);
        let fenced = self.common.calls.fence(caller, key, token).await;
        fenced.map_err(|failure| self.fail(failure))
    }

    async fn check(&self) -> Result<Vec<Finding>, BackendError> {
        let config = &self.common.config;
        let live = match self.links[0].live().await {
            Ok(live) => live,
            Err(failure) => {
                return match &*failure {
                    Failure::Unsafe(finding) => Ok(vec![finding.clone()]),
                    failure => Err(failure.unsent(&config.endpoint.to_string())),
                };
            }
        };
        let facts = probe::facts(&live.client, &config.schema).await;
        let facts = facts.map_err(|failure| self.fail(failure))?;
        if facts.is_read_only {
            return Err(Failure::ReadOnly.unsent(&config.endpoint.to_string()));
        }
        Ok(probe::findings(&facts, live.is_pooled, config.mode))
    }
}

impl Backend for Postgres {
    fn profile(&self) -> Profile {
        Profile {
            name: "postgres",
            class: Class::Safe,
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
        Box::pin(self.abandon(request))
    }

    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection> {
        Box::pin(self.inspect(key))
    }

    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict> {
        Box::pin(self.fence(key, token))
    }

    fn check(&self) -> BackendFuture<'_, Vec<Finding>> {
        Box::pin(self.check())
    }

    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.keep_up(events).await })
    }
}
