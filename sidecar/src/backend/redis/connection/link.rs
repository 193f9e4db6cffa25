//! One server, and at most one connection to it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use pawl_lock::{
    BackendError,
    backend::{Category, Outcome},
};
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};

use super::{Connection, Endpoint, Notice, Subscription, dial::dial};
use crate::backend::redis::errors::Failure;

/// The first bound of the backoff between tries to connect.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The last bound: a server that is back is found within this time.
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// The bound while only a change of configuration can help.
const CONFIG_BACKOFF: Duration = Duration::from_secs(5);
/// The bound after a connection that lived for less than [`LAST_BACKOFF`].
const SHORT_LIVED_BACKOFF: Duration = Duration::from_millis(100);

/// One server, and at most one connection to it. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    subscription: Option<Subscription>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// How many tries failed since the last connection.
    failures: u32,
    /// Whether there ever was a connection.
    was_up: bool,
}

enum Phase {
    /// There is none.
    Down,
    /// There is none, and none is tried before the time; until then calls fail for this reason.
    Waiting(Instant, Failure),
    /// One is being made, by whichever call polls it.
    Dialling(Dialling),
    /// There is one, or was until just now.
    Up(Arc<Connection>),
}

type Dialling = Shared<BoxFuture<'static, Result<Arc<Connection>, Failure>>>;

impl Link {
    /// A link that connects at its first call.
    pub fn new(endpoint: Endpoint, subscription: Option<Subscription>) -> Self {
        Self(Arc::new(Inner {
            endpoint,
            subscription,
            state: Mutex::new(State {
                phase: Phase::Down,
                failures: 0,
                was_up: false,
            }),
        }))
    }

    /// The server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// The connection; made if there is none.
    ///
    /// Fails at once while the backoff lasts. Cancel safe: a connection that is being made goes on when the next call
    /// comes.
    ///
    /// # Errors
    /// Why there is none. No call was made, so the outcome is [`Outcome::NotApplied`].
    pub async fn connection(&self) -> Result<Arc<Connection>, BackendError> {
        let dialling = match self.look(Instant::now()) {
            Look::Up(connection) => return Ok(connection),
            Look::Failed(_, why) => return Err(why.into()),
            Look::Dialling(dialling) => dialling,
        };
        dialling.await.map_err(BackendError::from)
    }

    /// Keeps a connection up, so that its subscription is heard. Ends only when it is dropped.
    pub async fn keep_up(&self) {
        loop {
            let connection = match self.look(Instant::now()) {
                Look::Up(connection) => Ok(connection),
                Look::Dialling(dialling) => dialling.await,
                Look::Failed(until, _) => {
                    sleep_until(until).await;
                    continue;
                }
            };
            if let Ok(connection) = connection {
                // The connection itself is not kept: one that is given up must end.
                let mut closed = connection.closed.clone();
                drop(connection);
                let _ = closed.wait_for(|is_closed| *is_closed).await;
            }
        }
    }

    fn look(&self, now: Instant) -> Look {
        let mut state = self.0.lock();
        match &state.phase {
            Phase::Up(connection) if connection.is_up() => {
                return Look::Up(Arc::clone(connection));
            }
            Phase::Up(connection) if now - connection.made < LAST_BACKOFF => {
                let why = Failure::new(
                    Category::Connection,
                    Outcome::NotApplied,
                    format!(
                        "the connection to the Redis server {} broke",
                        self.0.endpoint.name()
                    ),
                );
                let until = now + jitter(SHORT_LIVED_BACKOFF);
                state.phase = Phase::Waiting(until, why.clone());
                return Look::Failed(until, why);
            }
            Phase::Waiting(until, why) if now < *until => {
                return Look::Failed(*until, why.clone());
            }
            Phase::Dialling(dialling) => return Look::Dialling(dialling.clone()),
            Phase::Down | Phase::Waiting(..) | Phase::Up(_) => {}
        }
        let dialling = self.dialling();
        state.phase = Phase::Dialling(dialling.clone());
        Look::Dialling(dialling)
    }

    fn dialling(&self) -> Dialling {
        let endpoint = self.0.endpoint.clone();
        let subscription = self.0.subscription.clone();
        // Weak, because the future lies in what it points to.
        let inner = Arc::downgrade(&self.0);
        let dialling = async move {
            let dialled = dial(&endpoint, subscription.as_ref()).await.map(Arc::new);
            if let Some(inner) = inner.upgrade() {
                inner.settle(&dialled);
            }
            dialled
        };
        dialling.boxed().shared()
    }
}

enum Look {
    Up(Arc<Connection>),
    Dialling(Dialling),
    Failed(Instant, Failure),
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No step under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, dialled: &Result<Arc<Connection>, Failure>) {
        let mut state = self.lock();
        match dialled {
            Ok(connection) => {
                let is_again = std::mem::replace(&mut state.was_up, true);
                state.failures = 0;
                state.phase = Phase::Up(Arc::clone(connection));
                drop(state);
                tracing::info!(server = %self.endpoint.name(), "connected to the Redis server");
                if let (true, Some(subscription)) = (is_again, &self.subscription) {
                    (subscription.notify)(Notice::Again);
                }
            }
            Err(why) => {
                let backoff = backoff(state.failures, why.category);
                if state.failures == 0 {
                    // Once an outage; what comes after it is in the metrics.
                    tracing::warn!(category = why.category.as_str(), "{}", why.message);
                }
                state.failures = state.failures.saturating_add(1);
                state.phase = Phase::Waiting(Instant::now() + backoff, why.clone());
            }
        }
    }
}

/// How long to wait after the failure number `failures` (from 0).
fn backoff(failures: u32, category: Category) -> Duration {
    if matches!(category, Category::Config | Category::Tls) {
        return CONFIG_BACKOFF / 2 + jitter(CONFIG_BACKOFF / 2);
    }
    let bound = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    jitter(bound.min(LAST_BACKOFF))
}

/// Full jitter: anything up to the bound.
fn jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::rng().random())
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link")
            .field(&self.0.endpoint.name())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_its_bound_and_is_jittered() {
        let longest = |failures| {
            (0..200)
                .map(|_| backoff(failures, Category::Connection))
                .max()
                .unwrap_or_default()
        };
        assert!(longest(0) <= FIRST_BACKOFF);
        assert!(longest(3) > FIRST_BACKOFF && longest(3) <= FIRST_BACKOFF * 8);
        assert!(longest(u32::MAX) <= LAST_BACKOFF && longest(u32::MAX) > LAST_BACKOFF / 2);
        let spread: std::collections::HashSet<Duration> =
            (0..50).map(|_| backoff(9, Category::Connection)).collect();
        assert!(spread.len() > 10);
        assert!(backoff(0, Category::Config) >= CONFIG_BACKOFF / 2);
        assert!(backoff(99, Category::Tls) <= CONFIG_BACKOFF);
    }
}
