//! Workers that add to a number under a lock, while sidecars and servers are killed and stopped.
//!
//! The number is read, thought about, and written back, so two holders lose an update unless the resource compares tokens. What every worker
//! did and was told goes into a [`history`].

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pawl_kit::clock::Clock;
use pawl_lock::Instant;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    history::{self, Entry, What},
    http::{Connection, Error, Lease},
    sidecar::Sidecar,
};

/// What the workers guard: a number and the largest token that was seen with it.
#[derive(Debug, Default)]
struct Resource {
    value: i64,
    token: u64,
}

/// A run: the resource, its history, and where the workers find their sidecars.
#[derive(Clone)]
pub struct Run {
    clock: Clock,
    start: Instant,
    resource: Arc<Mutex<Resource>>,
    history: Arc<Mutex<Vec<Entry>>>,
    is_fenced: bool,
}

/// How the workers go about it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What they ask for.
    pub body: &'static str,
    /// How long those of even number think between reading and writing.
    pub think: Duration,
    /// The same for the others.
    pub late: Duration,
}

impl Run {
    /// A run whose resource compares tokens, or does not.
    pub fn new(is_fenced: bool) -> Self {
        let clock = Clock::system();
        let start = clock.now();
        Self {
            clock,
            start,
            resource: Arc::default(),
            history: Arc::default(),
            is_fenced,
        }
    }

    fn micros(&self) -> u64 {
        self.micros_at(self.clock.now())
    }

    fn micros_at(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn note(&self, worker: u32, what: What) {
        // The time is taken under the lock, so that the list is in order.
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.micros();
        history.push(Entry { at, worker, what });
    }

    /// Starts a worker that goes on until `stop` is true. `address` tells where its sidecar is, also after it was replaced.
    pub fn work(
        &self,
        workers: &mut JoinSet<()>,
        worker: u32,
        address: watch::Receiver<std::net::SocketAddr>,
        stop: watch::Receiver<bool>,
        pace: Pace,
    ) {
        let run = self.clone();
        workers.spawn(async move {
            while !*stop.borrow() {
                let at = *address.borrow();
                if run.one(worker, at, pace).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }

    /// One turn: take the lock, read, think, write, let go.
    async fn one(&self, worker: u32, at: std::net::SocketAddr, pace: Pace) -> Result<(), Error> {
        let asked = self.clock.now();
        self.note(worker, What::Ask);
        let (mut connection, lease) = match self.take(at, pace).await {
            Ok(taken) => taken,
            Err(error) => {
                let is_answer = error.to_string().starts_with("acquire:");
                self.note(
                    worker,
                    if is_answer {
                        What::Refused
                    } else {
                        What::Unknown
                    },
                );
                return Err(error);
            }
        };
        // As the documentation says: counted from before the request.
        let believed = asked.saturating_add(Duration::from_millis(lease.expires_in_ms));
        let believed_until = self.micros_at(believed);
        self.note(
            worker,
            What::Granted {
                token: lease.token,
                believed_until,
            },
        );
        let read = self.read(lease.token);
        tokio::time::sleep(if worker.is_multiple_of(2) {
            pace.think
        } else {
            pace.late
        })
        .await;
        self.write(worker, lease.token, read);
        self.note(worker, What::Release);
        match tokio::time::timeout(PATIENCE, connection.release(&lease.id)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.note(worker, What::Lost);
                Err(error)
            }
            Err(late) => Err(late.into()),
        }
    }

    async fn take(
        &self,
        at: std::net::SocketAddr,
        pace: Pace,
    ) -> Result<(Connection, Lease), Error> {
        tokio::time::timeout(PATIENCE, async {
            let mut connection = Connection::open(at).await?;
            let lease = connection
                .acquire(&Sidecar::lock("number"), pace.body)
                .await?;
            Ok((connection, lease))
        })
        .await?
    }

    /// The read shows the token: a late write must not slip in between a newer holder's read and write.
    fn read(&self, token: u64) -> i64 {
        let mut resource = self.resource.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_fenced {
            resource.token = resource.token.max(token);
        }
        resource.value
    }

    /// The write and the comparison are one step, as they are in a database's statement.
    fn write(&self, worker: u32, token: u64, read: i64) {
        let mut resource = self.resource.lock().unwrap_or_else(PoisonError::into_inner);
        let is_applied = !self.is_fenced || token >= resource.token;
        let value = read + 1;
        if is_applied {
            resource.value = value;
            resource.token = token.max(resource.token);
        }
        self.note(
            worker,
            What::Wrote {
                token,
                read,
                value,
                is_applied,
            },
        );
    }

    /// How many writes were applied so far.
    pub fn applied(&self) -> u32 {
        history::tally(&self.history.lock().unwrap_or_else(PoisonError::into_inner)).applied
    }

    /// The history, which is also written to `target/…/<name>.jsonl`.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn finish(self, folder: &Path, name: &str) -> Vec<Entry> {
        let history = self
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        fs::create_dir_all(folder).expect("the target folder can be written");
        fs::write(
            folder.join(format!("{name}.jsonl")),
            history::to_json_lines(&history),
        )
        .expect("the target folder can be written");
        history
    }
}

/// Longer than any wait here, so that no worker hangs on a sidecar that was stopped.
const PATIENCE: Duration = Duration::from_secs(8);
