//! A connection that stands (or stood).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use pawl_lock::BackendError;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{Invocation, STALLED_AFTER};
use crate::backend::redis::{
    errors::Failure,
    probe::{Compare, ServerInfo},
};

/// A connection that stands (or stood).
///
/// Dropping a call's future leaves it on its way; its answer is read and thrown away.
pub struct Connection {
    pub(super) commands: MultiplexedConnection,
    pub(super) server: ArcSwap<ServerInfo>,
    pub(super) can_hear: bool,
    /// True once it is closed, or is not to be used any more.
    pub(super) closed: watch::Receiver<bool>,
    pub(super) retired: AtomicBool,
    pub(super) made: Instant,
    /// The server's uptime as it was told before `made`.
    pub(super) first_uptime: Duration,
    /// Since when a call is unanswered and nothing was heard: milliseconds after `made`, and 1; 0 if it is not.
    pub(super) silent_since: AtomicU64,
    /// Reads and writes the socket; ends with the connection.
    pub(super) _driver: JoinSet<()>,
}

impl Connection {
    /// What the server said of itself, when the connection was made or at the last [`Connection::refresh`].
    pub fn server(&self) -> Arc<ServerInfo> {
        self.server.load_full()
    }

    /// How long the server has been running, by what it said when the connection was made: a server that ends, ends its
    /// connections. Later answers are not used, because a clock that is set forward moves them.
    pub fn uptime(&self) -> Duration {
        self.first_uptime + self.made.elapsed()
    }

    /// Puts in what another connection to the same server learned.
    pub fn set_server(&self, server: Arc<ServerInfo>) {
        self.server.store(server);
    }

    /// Whether the subscription was allowed, or none was asked for.
    pub fn can_hear(&self) -> bool {
        self.can_hear
    }

    /// Whether calls may use it.
    pub fn is_up(&self) -> bool {
        !*self.closed.borrow() && !self.retired.load(Ordering::Relaxed) && !self.is_stalled()
    }

    /// Waits until it is closed. Cancel safe.
    pub async fn closed(&self) {
        // An error means that the driver is gone, which closed it.
        drop(self.closed.clone().wait_for(|is_closed| *is_closed).await);
    }

    /// Runs a script, by its hash and, if the server does not know it, by its text.
    pub async fn invoke(&self, invocation: &Invocation) -> Result<Value, BackendError> {
        match self.send(invocation.by_hash()).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.call(&invocation.by_text()).await
            }
            answer => answer.map_err(|error| self.fail(error)),
        }
    }

    /// Runs a command.
    pub async fn call(&self, command: &Cmd) -> Result<Value, BackendError> {
        self.send(command).await.map_err(|error| self.fail(error))
    }

    /// Waits until `replicas` replicas have all that was written on this connection, at most for `patience`; answers
    /// how many have. Calls behind it wait too.
    pub async fn wait(&self, replicas: u32, patience: Duration) -> Result<u32, BackendError> {
        let millis = u64::try_from(patience.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let mut command = Cmd::new();
        command.arg("WAIT").arg(replicas).arg(millis);
        match self.call(&command).await? {
            Value::Int(confirmed) => Ok(u32::try_from(confirmed).unwrap_or(0)),
            _ => Err(crate::backend::redis::reply::not_understood()),
        }
    }

    /// Deletes a plain string if it has this value, with the server's own command where it has one; answers whether it
    /// did.
    pub async fn delete_if(&self, key: &str, value: &str) -> Result<bool, BackendError> {
        let mut command = Cmd::new();
        match self.server().compare {
            Compare::Delex => command.arg("DELEX").arg(key).arg("IFEQ").arg(value),
            Compare::Delifeq => command.arg("DELIFEQ").arg(key).arg(value),
            Compare::Script => {
                let mut script = Invocation::new(&super::dial::DELETE_IF, 1, 1);
                script.arg(key).arg(value);
                return Ok(self.invoke(&script).await? == Value::Int(1));
            }
        };
        Ok(self.call(&command).await? == Value::Int(1))
    }

    /// Asks the server again what it is.
    pub async fn refresh(&self) -> Result<(), BackendError> {
        let server = match self.send(Cmd::new().arg("INFO")).await {
            Ok(info) => super::dial::read_info(&info),
            Err(error) if is_forbidden(&error) => ServerInfo::default(),
            Err(error) => return Err(self.fail(error)),
        };
        let compare = self.server().compare;
        self.server
            .store(Arc::new(ServerInfo { compare, ..server }));
        Ok(())
    }

    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let now = self.age();
        // Only the first unanswered call starts the silence.
        let _ = self
            .silent_since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let answer = self.commands.clone().send_packed_command(command).await;
        self.silent_since.store(0, Ordering::Relaxed);
        answer.and_then(Value::extract_error)
    }

    /// What an error means. A server that became a replica is left: its name may lead to the new primary now.
    fn fail(&self, error: RedisError) -> BackendError {
        if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
            self.retired.store(true, Ordering::Relaxed);
        }
        Failure::of_call(&error).with_source(error)
    }

    fn is_stalled(&self) -> bool {
        let since = self.silent_since.load(Ordering::Relaxed);
        let limit = u64::try_from(STALLED_AFTER.as_millis()).unwrap_or(u64::MAX);
        since != 0 && self.age().saturating_sub(since) >= limit
    }

    /// Milliseconds since it was made, and 1.
    fn age(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// Whether the ACL forbids the command.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}
