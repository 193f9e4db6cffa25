//! The connections that are there.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long to wait before idle connections are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a connection and the pool tell each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// Requests that are under way.
    busy: Arc<AtomicUsize>,
    /// The connection is to end when it has answered them.
    pub(super) end: CancellationToken,
}

/// A request is under way for as long as it lives.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Marks {
    pub(super) fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(&self.busy))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A bounded number of connections, each a task that is waited for.
pub(super) struct Pool {
    most: usize,
    tasks: JoinSet<()>,
    oldest_first: VecDeque<Marks>,
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            tasks: JoinSet::new(),
            oldest_first: VecDeque::new(),
        }
    }

    /// Waits until there is room for one more; ends the oldest idle connection for it. Cancel safe.
    pub(super) async fn room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            if self.tasks.len() < self.most {
                return;
            }
            self.forget_ended();
            let ending = self
                .oldest_first
                .iter()
                .any(|marks| marks.end.is_cancelled());
            let idle = self.oldest_first.iter().find(|marks| marks.is_idle());
            if let Some(idle) = idle.filter(|_| !ending) {
                idle.end.cancel();
            }
            // One that is busy now may be idle then.
            let _ = timeout(LOOK_AGAIN, self.tasks.join_next()).await;
        }
    }

    pub(super) fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        connection: impl FnOnce(Marks) -> F,
    ) {
        self.forget_ended();
        let marks = Marks::default();
        self.oldest_first.push_back(marks.clone());
        self.tasks.spawn(connection(marks));
    }

    /// A connection that ended has dropped its marks.
    fn forget_ended(&mut self) {
        self.oldest_first
            .retain(|marks| Arc::strong_count(&marks.busy) > 1);
    }

    /// Lets all end, and ends what is left after `patience`.
    pub(super) async fn drain(mut self, patience: Duration) {
        for marks in &self.oldest_first {
            marks.end.cancel();
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(patience, ended).await.is_err() {
            tracing::warn!("reviews did not end in time");
        }
        self.tasks.shutdown().await;
    }
}
