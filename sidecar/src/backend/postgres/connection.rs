//! One connection: how it is made, and how calls go over it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use pawl_lock::{Instant, Ttl};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    AsyncMessage, Client, Connection, NoTls, Row,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::{
    advisory::Session,
    config::{Now, PostgresConfig},
    errors::Failure,
    listen::Teller,
};

/// How many calls may wait for an answer on one connection. The driver's own queue has no bound.
const MAX_UNANSWERED: u32 = 16_384;

/// Moves the bytes of a connection until it ends.
pub(super) type Driver = Pin<Box<dyn Future<Output = Option<tokio_postgres::Error>> + Send>>;

/// A connection that is ready for calls.
pub(super) struct Live {
    pub(super) client: Client,
    /// Whether something other than the server greeted us.
    pub(super) is_pooled: bool,
    /// The session that holds locks, in mode Advisory.
    pub(super) session: Option<Session>,
    /// Ends the connection.
    pub(super) close: CancellationToken,
    now: Now,
    /// The server's clock, in microseconds since 1970, and when it was heard.
    heard: Mutex<(i64, Instant)>,
    /// How many calls were sent since the last answer.
    unanswered: AtomicU32,
}

/// A parameter of a call.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

impl Live {
    pub(super) fn new(
        client: Client,
        is_pooled: bool,
        session: Option<Session>,
        now: Now,
        server_us: i64,
    ) -> Self {
        let heard = Mutex::new((server_us, now()));
        Self {
            client,
            is_pooled,
            session,
            close: CancellationToken::new(),
            now,
            heard,
            unanswered: AtomicU32::new(0),
        }
    }

    /// Makes a call that answers with one row, in one round trip. The statement is unnamed, so that it also works
    /// where every transaction may go to another server connection.
    ///
    /// Cancel safety: a call that was dropped is still made.
    pub(super) async fn call(&self, sql: &str, params: &[Param<'_>]) -> Result<Row, Failure> {
        self.rows(sql, params)
            .await?
            .into_iter()
            .next()
            .ok_or(Failure::Protocol("no row"))
    }

    /// The same for any number of rows.
    pub(super) async fn rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        if self.client.is_closed() {
            return Err(Failure::Gone);
        }
        if self.unanswered.fetch_add(1, Ordering::Relaxed) >= MAX_UNANSWERED {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::Silent(MAX_UNANSWERED));
        }
        let result = self.client.query_typed(sql, params).await;
        self.unanswered.store(0, Ordering::Relaxed);
        Ok(result?)
    }

    /// Takes the server's clock from an answer.
    pub(super) fn hear_clock(&self, server_us: Option<i64>) {
        if let Some(server_us) = server_us {
            let now = (self.now)();
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = (server_us, now);
        }
    }

    /// The server's clock `after` now, in microseconds: never later than it will be, as long as it is not set back.
    pub(super) fn server_us(&self, after: Duration) -> i64 {
        let (heard, at) = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = (self.now)().saturating_since(at) + after;
        heard.saturating_add(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// How long a connection may be silent before it is given up: the ttl, since nothing that is held with it outlives
/// that, and not less than the two seconds below which TCP's own delays look like silence.
pub(super) fn silence(ttl: Ttl) -> Duration {
    ttl.as_duration().max(Duration::from_secs(2))
}

/// Connects and authenticates.
pub(super) async fn connect(
    config: &PostgresConfig,
    teller: &Arc<Teller>,
) -> Result<(Client, Driver), Failure> {
    let credentials = (config.credentials)().map_err(Failure::Credentials)?;
    let mut driver = config.endpoint.driver(config);
    let user = credentials.username.as_deref().or(config.endpoint.user());
    driver.user(user.ok_or(Failure::NoUser)?);
    if let Some(password) = credentials.password {
        driver.password(password);
    }
    match &config.tls {
        None => {
            let (client, connection) = driver.connect(NoTls).await?;
            Ok((client, Box::pin(drive(connection, teller.clone()))))
        }
        Some(tls) => {
            let tls = tls().map_err(Failure::TlsFiles)?;
            let (client, connection) = driver.connect(MakeRustlsConnect::new(tls)).await?;
            Ok((client, Box::pin(drive(connection, teller.clone()))))
        }
    }
}

/// Moves bytes and passes on what the server tells without being asked, until the connection ends.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    teller: Arc<Teller>,
) -> Option<tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                teller.hear(notification.payload());
            }
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(code = notice.code().code(), "postgres notice");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(error),
            None => return None,
        }
    }
}

/// What a session of our own is set to. Nothing of it may be set where a pooler would pass the session on to others.
pub(super) fn settings(server_version: i64, ttl: Ttl) -> String {
    let silent_ms = silence(ttl).as_millis();
    let idle = (silent_ms / 1000).saturating_sub(2).max(1);
    let mut sql = format!(
        "SET search_path = pg_catalog, pg_temp; \
         SET default_transaction_isolation = 'read committed'; \
         SET statement_timeout = '10s'; \
         SET idle_in_transaction_session_timeout = '10s'; \
         SET jit = off; \
         SET tcp_user_timeout = {silent_ms}; \
         SET tcp_keepalives_idle = {idle}; \
         SET tcp_keepalives_interval = 1; \
         SET tcp_keepalives_count = 3;"
    );
    if server_version >= 140_000 {
        // A session that only keeps locks is idle on purpose.
        sql.push_str(" SET idle_session_timeout = 0;");
    }
    sql
}
