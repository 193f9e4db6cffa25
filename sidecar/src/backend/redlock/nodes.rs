//! All nodes, asked at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use pawl_kit::clock::Clock;
use pawl_lock::{
    BackendError,
    backend::{Category, Outcome},
    quorum::Quorum,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{RedlockConfig, node::Node};
use crate::backend::redis::{calls::Calls, connection::STALLED_AFTER};

/// How many calls may be finished in the background at once; beyond that, what is left of a call is left to its
/// connection, which sends what it was given.
const MOST_LEFT: usize = 256;

/// All nodes and what is needed to ask them.
pub(super) struct Nodes {
    pub(super) config: RedlockConfig,
    pub(super) quorum: Quorum,
    pub(super) calls: Calls,
    pub(super) clock: Clock,
    all: Vec<Node>,
    /// What callers no longer wait for. Ends with the backend.
    left: Mutex<JoinSet<()>>,
}

/// The answers of nodes to a call, as they come: which node, and what.
pub(super) struct Answers<F> {
    pending: FuturesUnordered<F>,
    until: Instant,
}

impl Nodes {
    pub(super) fn new(
        config: RedlockConfig,
        quorum: Quorum,
        calls: Calls,
        clock: Clock,
        all: Vec<Node>,
    ) -> Self {
        Self {
            config,
            quorum,
            calls,
            clock,
            all,
            left: Mutex::default(),
        }
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.all[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.all.iter()
    }

    /// Asks all nodes at once; they have `patience` for it.
    pub(super) fn ask<F, T>(
        self: &Arc<Self>,
        patience: Duration,
        call: impl Fn(Arc<Self>, usize) -> F,
    ) -> Answers<F>
    where
        F: Future<Output = (usize, T)>,
    {
        self.ask_some(0..self.all.len(), patience, call)
    }

    /// Asks some of them.
    pub(super) fn ask_some<F, T>(
        self: &Arc<Self>,
        nodes: impl IntoIterator<Item = usize>,
        patience: Duration,
        call: impl Fn(Arc<Self>, usize) -> F,
    ) -> Answers<F>
    where
        F: Future<Output = (usize, T)>,
    {
        let pending = nodes
            .into_iter()
            .map(|node| call(Arc::clone(self), node))
            .collect();
        Answers {
            pending,
            until: Instant::now() + patience,
        }
    }

    /// Lets a task go on when its caller has its answer. At the bound it is dropped: whatever it sent is on its way.
    pub(super) fn leave(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while left.try_join_next().is_some() {}
        if left.len() < MOST_LEFT {
            left.spawn(task);
        }
    }

    /// Lets the slow nodes finish.
    pub(super) fn leave_rest<F, T>(&self, mut rest: Answers<F>)
    where
        F: Future<Output = (usize, T)> + Send + 'static,
        T: Send,
    {
        if !rest.pending.is_empty() {
            rest.until = Instant::now() + STALLED_AFTER;
            self.leave(async move { while rest.next().await.is_some() {} });
        }
    }

    /// Too few nodes answered: the error of those that say most about it.
    pub(super) fn unreachable(&self, answered: usize, errors: &[BackendError]) -> BackendError {
        // A cause that only people can remove is told before one that passes.
        let told = errors
            .iter()
            .max_by_key(|error| match error.category() {
                Category::Config | Category::Tls | Category::Unsafe => 3,
                Category::Full => 2,
                Category::Timeout => 0,
                _ => 1,
            })
            .map_or("no answer in time".to_owned(), ToString::to_string);
        let category = errors
            .iter()
            .find(|error| error.to_string() == told)
            .map_or(Category::Timeout, BackendError::category);
        let is_open = errors
            .iter()
            .any(|error| error.outcome() == Outcome::Unknown);
        let outcome = if is_open {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        };
        BackendError::new(
            category,
            outcome,
            format!(
                "only {answered} of {} Redis servers answered in time and {} must: {told}",
                self.quorum.nodes(),
                self.quorum.majority(),
            ),
        )
    }
}

impl<F, T> Answers<F>
where
    F: Future<Output = (usize, T)>,
{
    /// The next answer; nothing when all have come or the time is over.
    pub(super) async fn next(&mut self) -> Option<(usize, T)> {
        timeout_at(self.until, self.pending.next())
            .await
            .ok()
            .flatten()
    }

    /// How many have not come.
    pub(super) fn open(&self) -> usize {
        self.pending.len()
    }

    /// Gives them more time.
    pub(super) fn extend(&mut self, by: Duration) {
        self.until = Instant::now() + by;
    }
}
