//! A connection that is kept: made, watched, and made again when it breaks.
//!
//! A connection that broke is never made again under the same session: what was held in it is told as lost first, and
//! the new one holds nothing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pawl_lock::{
    BackendError, Instant,
    backend::{BackendEvent, Category},
};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_postgres::types::Type;

use super::{
    advisory::Session,
    calls::Calls,
    config::{PostgresConfig, PostgresMode},
    connection::{self, Driver, Live},
    errors::Failure,
    listen::Teller,
    probe, schema,
};

/// How long a connection may take from its first byte until it is ready.
const START_LIMIT: Duration = Duration::from_secs(15);

/// The bounds of the pause between two attempts to connect: full jitter between zero and a bound that doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The bound where only a change of configuration helps.
const RARE_PAUSE: Duration = Duration::from_secs(15);

/// How long mode Advisory is refused after a call landed in another session.
const MOVED_PAUSE: Duration = Duration::from_mins(1);

/// What all connections of a backend share.
pub(super) struct Common {
    pub(super) config: PostgresConfig,
    pub(super) calls: Calls,
    /// Where this sidecar is told things: a `LISTEN` channel.
    pub(super) channel: String,
    pub(super) teller: Arc<Teller>,
    sessions: AtomicU64,
    /// The session that was opened last: its successor ends it, if it is still there.
    last_session: Mutex<Option<String>>,
    /// When a call was found to be in another session than its own.
    moved: Mutex<Option<Instant>>,
}

/// A connection that is kept as long as this is not dropped.
pub(super) struct Link {
    common: Arc<Common>,
    state: watch::Receiver<State>,
    /// The task that keeps it, which ends with the link.
    _keeper: JoinSet<()>,
}

#[derive(Clone)]
enum State {
    /// The first connect is under way.
    Connecting,
    Up(Arc<Live>),
    /// Why not. The next attempt is planned or under way.
    Down(Arc<Failure>),
}

impl Common {
    pub(super) fn new(config: PostgresConfig) -> Self {
        Self {
            calls: Calls::new(&config.schema),
            config,
            channel: format!("pawl_{:032x}", rand::random::<u128>()),
            teller: Arc::default(),
            sessions: AtomicU64::new(0),
            last_session: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    /// A call was answered by another session than its own: a pooler is in between after all.
    pub(super) fn found_moved(&self, live: &Live) {
        let now = (self.config.now)();
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        live.close.cancel();
    }

    /// Whether a call landed in another session not long ago.
    pub(super) fn is_moved(&self) -> bool {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.is_some_and(|at| (self.config.now)().saturating_since(at) < MOVED_PAUSE)
    }
}

impl Link {
    /// Starts to connect. `listens`: whether notifications come over this connection.
    ///
    /// Must be called in a tokio runtime.
    pub(super) fn start(common: Arc<Common>, listens: bool) -> Self {
        let (sender, state) = watch::channel(State::Connecting);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(common.clone(), listens, sender));
        Self {
            common,
            state,
            _keeper: keeper,
        }
    }

    /// The connection, after the first attempt to make it.
    pub(super) async fn live(&self) -> Result<Arc<Live>, Arc<Failure>> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Up(live) => return Ok(live.clone()),
                State::Down(failure) => return Err(failure.clone()),
                State::Connecting => {}
            }
            if state.changed().await.is_err() {
                return Err(Arc::new(Failure::Gone));
            }
        }
    }

    /// The same for a call.
    pub(super) async fn for_call(&self) -> Result<Arc<Live>, BackendError> {
        let server = &self.common.config.endpoint;
        self.live()
            .await
            .map_err(|failure| failure.unsent(&server.to_string()))
    }

    /// The connection, if it is there now.
    pub(super) fn up(&self) -> Option<Arc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) => Some(live.clone()),
            _ => None,
        }
    }
}

/// Connects, watches, connects again; for ever.
async fn keep(common: Arc<Common>, listens: bool, state: watch::Sender<State>) {
    let mut bound = FIRST_PAUSE;
    loop {
        let failure = match timeout(START_LIMIT, open(&common, listens)).await {
            Err(_) => Failure::Slow,
            Ok(Err(failure)) => failure,
            Ok(Ok((live, driver))) => {
                bound = FIRST_PAUSE;
                let live = Arc::new(live);
                state.send_replace(State::Up(live.clone()));
                common.teller.tell(BackendEvent::Resync);
                let error = tokio::select! {
                    error = driver => error,
                    () = live.close.cancelled() => None,
                };
                state.send_replace(State::Down(Arc::new(Failure::Gone)));
                if let Some(session) = &live.session {
                    let session = session.number;
                    common.teller.tell(BackendEvent::SessionLost { session });
                }
                error.map_or(Failure::Gone, Failure::Server)
            }
        };
        tracing::warn!(
            server = %common.config.endpoint, category = failure.category().as_str(), error = %failure,
            "no connection to postgres"
        );
        let most = match failure.category() {
            Category::Config | Category::Tls | Category::Unsafe => RARE_PAUSE,
            _ => LAST_PAUSE,
        };
        state.send_replace(State::Down(Arc::new(failure)));
        tokio::time::sleep(bound.mul_f64(rand::random::<f64>())).await;
        bound = (bound * 2).min(most);
    }
}

/// Connects, looks at what is there, and makes the connection ready for calls.
async fn open(common: &Common, listens: bool) -> Result<(Live, Driver), Failure> {
    let (client, mut driver) = connection::connect(&common.config, &common.teller).await?;
    tokio::select! {
        biased;
        live = prepare(common, client, listens) => Ok((live?, driver)),
        error = &mut driver => Err(error.map_or(Failure::Gone, Failure::Server)),
    }
}

async fn prepare(
    common: &Common,
    client: tokio_postgres::Client,
    listens: bool,
) -> Result<Live, Failure> {
    let config = &common.config;
    let greeted = probe::greeted_as(&client.cancel_token()).await?;
    let facts = probe::facts(&client, &config.schema).await?;
    let is_pooled = greeted != facts.process || common.is_moved();
    let fatal = probe::findings(&facts, is_pooled, config.mode)
        .into_iter()
        .find(|finding| finding.is_fatal);
    if let Some(finding) = fatal {
        return Err(Failure::Unsafe(finding));
    }
    if !is_pooled {
        client
            .batch_execute(&connection::settings(facts.version, config.ttl))
            .await?;
    }
    if facts.is_read_only {
        return Err(Failure::ReadOnly);
    }
    schema::ensure(&client, &config.schema, &facts).await?;
    let session = match config.mode {
        PostgresMode::Advisory => Some(open_session(common, &client).await?),
        PostgresMode::Row => None,
    };
    if listens && !is_pooled {
        // The channel's name is made of letters and digits here.
        client
            .batch_execute(&format!("LISTEN \"{}\"", common.channel))
            .await?;
    }
    let now = config.now.clone();
    Ok(Live::new(client, is_pooled, session, now, facts.server_us))
}

async fn open_session(
    common: &Common,
    client: &tokio_postgres::Client,
) -> Result<Session, Failure> {
    let id = format!("{:032x}", rand::random::<u128>());
    let before = common
        .last_session
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(id.clone());
    client
        .query_typed(
            &common.calls.open_session,
            &[
                (&id, Type::TEXT),
                (&common.config.identity, Type::TEXT),
                (&before, Type::TEXT),
            ],
        )
        .await?;
    let number = common.sessions.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(Session::new(id, number))
}
