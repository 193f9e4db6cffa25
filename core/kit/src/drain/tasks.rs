//! The owner of a daemon's long-lived tasks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use super::Drain;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a task may end: with nothing to say, or with an error.
pub trait Ending: Send + 'static {
    /// The ending as a result.
    fn into_result(self) -> Result<(), BoxError>;
}

impl Ending for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl Ending for Infallible {
    fn into_result(self) -> Result<(), BoxError> {
        match self {}
    }
}

impl<E: Into<BoxError> + Send + 'static> Ending for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

/// Why [`Tasks::run`] ended other than by a clean drain.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An essential task ended while nothing had asked it to.
    #[error("the essential task `{name}` ended")]
    Ended {
        /// The task.
        name: &'static str,
    },
    /// A task ended with an error: an essential one at any time, another one during the drain or before.
    #[error("the task `{name}` failed: {source}")]
    Failed {
        /// The task.
        name: &'static str,
        /// What it said.
        source: BoxError,
    },
    /// A task panicked.
    #[error("the task `{name}` panicked")]
    Panicked {
        /// The task.
        name: &'static str,
    },
    /// Tasks were still there when the time for the drain was over; they were aborted.
    #[error("still running after the {}s given for the drain: {}", .grace.as_secs_f64(), .names.join(", "))]
    Stuck {
        /// The tasks, by name.
        names: Vec<&'static str>,
        /// The time that was given.
        grace: Duration,
    },
    /// The drain was forced while tasks were there; they were aborted.
    #[error("ended by force while running: {}", .names.join(", "))]
    Forced {
        /// The tasks, by name.
        names: Vec<&'static str>,
    },
}

impl Failure {
    /// A short word for the log.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Ended { .. } => "ended",
            Self::Failed { .. } => "failed",
            Self::Panicked { .. } => "panicked",
            Self::Stuck { .. } => "stuck",
            Self::Forced { .. } => "forced",
        }
    }
}

/// A set of named tasks that is waited for. Dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<Result<(), BoxError>>,
    known: HashMap<Id, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Must not end before the drain.
    Essential,
    /// May end by itself.
    Background,
    /// May end by itself, and is not waited for by the drain.
    Onlooker,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task without which the process is of no use: when it ends before the drain, the process ends. Must be
    /// called inside a tokio runtime.
    pub fn essential<F>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output: Ending> + Send + 'static,
    {
        self.spawn(name, Kind::Essential, work);
    }

    /// The same for a task that stays on its thread. Must be called inside a [`tokio::task::LocalSet`].
    pub fn essential_local<F>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output: Ending> + 'static,
    {
        let task = self
            .set
            .spawn_local(async move { work.await.into_result() });
        let kind = Kind::Essential;
        self.known.insert(task.id(), Known { name, kind });
    }

    /// Starts a task that may end by itself. An error or panic of it ends the process all the same: a task that wants
    /// its errors survived, handles them.
    pub fn background<F>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output: Ending> + Send + 'static,
    {
        self.spawn(name, Kind::Background, work);
    }

    /// Starts a task that looks on and has nothing to finish, such as [`super::Signals::run`], which waits for a second
    /// signal that hardly ever comes: the drain does not wait for it, and aborts it at the end.
    pub fn onlooker<F>(&mut self, name: &'static str, work: F)
    where
        F: Future<Output: Ending> + Send + 'static,
    {
        self.spawn(name, Kind::Onlooker, work);
    }

    fn spawn<F>(&mut self, name: &'static str, kind: Kind, work: F)
    where
        F: Future<Output: Ending> + Send + 'static,
    {
        let task = self.set.spawn(async move { work.await.into_result() });
        self.known.insert(task.id(), Known { name, kind });
    }

    /// Runs until the drain begins or a task fails, then drains: waits at most `grace` for all tasks, aborts what is
    /// left, and waits for that too. No task is left when it returns.
    ///
    /// # Errors
    /// The first failure; a clean drain is `Ok`.
    pub async fn run(mut self, drain: &Drain, grace: Duration) -> Result<(), Failure> {
        let signal = drain.signal();
        let first = tokio::select! {
            // The signal first: a task that ends because of the drain may be seen in the same turn as the drain.
            biased;
            () = signal.draining() => None,
            failure = self.failure() => Some(failure),
        };
        if let Some(failure) = &first {
            tracing::error!(category = failure.category(), error = %failure, "a task ended; draining");
        }
        drain.start();

        let left = tokio::select! {
            biased;
            failure = self.drained() => failure,
            () = signal.forced() => Some(Failure::Forced { names: self.names() }),
            () = tokio::time::sleep(grace) => Some(Failure::Stuck { names: self.names(), grace }),
        };
        self.set.abort_all();
        while self.set.join_next().await.is_some() {}
        first.or(left).map_or(Ok(()), Err)
    }

    /// Waits until a task ends that should not have; for ever when none does. Cancel safe.
    async fn failure(&mut self) -> Failure {
        loop {
            match self.set.join_next_with_id().await {
                Some(ended) => {
                    if let Some(failure) = self.judge(ended, true) {
                        return failure;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until no task is left but onlookers; the first failure among them. Cancel safe, but for a failure that was seen.
    async fn drained(&mut self) -> Option<Failure> {
        let mut first = None;
        while self.known.values().any(|task| task.kind != Kind::Onlooker)
            && let Some(ended) = self.set.join_next_with_id().await
        {
            let failure = self.judge(ended, false);
            if let Some(failure) = &failure {
                tracing::warn!(category = failure.category(), error = %failure, "a task failed while draining");
            }
            first = first.or(failure);
        }
        first
    }

    fn judge(
        &mut self,
        ended: Result<(Id, Result<(), BoxError>), JoinError>,
        running: bool,
    ) -> Option<Failure> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Known { name, kind } = self.known.remove(&id)?;
        match ended {
            Ok((_, Ok(()))) => {
                (kind == Kind::Essential && running).then_some(Failure::Ended { name })
            }
            Ok((_, Err(source))) => Some(Failure::Failed { name, source }),
            Err(error) if error.is_panic() => Some(Failure::Panicked { name }),
            Err(_) => None,
        }
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.known.values().map(|known| known.name).collect();
        names.sort_unstable();
        names
    }
}
