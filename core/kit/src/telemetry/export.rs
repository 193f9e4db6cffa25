//! The queue of finished spans and the task that exports them.
//!
//! The SDK's own batch processor runs on a thread of its own and blocks when it is shut down. This one is a task of
//! the daemon's event loop, owned by its [`Exporter`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::transport::Transport;

/// How long the last export may take.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The most that `OTEL_BSP_MAX_QUEUE_SIZE` may ask for: some 100 MB of spans.
const MAX_QUEUE: usize = 1 << 16;

/// When to export, and how much is kept until then: the `OTEL_BSP_*` variables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Batching {
    queue: usize,
    batch: usize,
    delay: Duration,
}

impl Batching {
    pub(super) fn from_env(read: &impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str, default: usize| {
            read(name)
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(default)
        };
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048).clamp(1, MAX_QUEUE);
        let delay = number("OTEL_BSP_SCHEDULE_DELAY", 5000);
        Self {
            queue,
            batch: number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).clamp(1, queue),
            delay: Duration::from_millis(u64::try_from(delay).unwrap_or(u64::MAX)),
        }
    }
}

/// Takes finished spans; never waits. When the queue is full, spans are dropped and counted.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        // The task exports by itself; waiting for it here would stop the event loop on which it runs.
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Owns the exporting task.
#[derive(Debug)]
pub(super) struct Exporter {
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Exporter {
    /// Starts the task in the current runtime.
    pub(super) fn start(
        exporter: SpanExporter,
        transport: Arc<Transport>,
        batching: Batching,
    ) -> (Queue, Self) {
        let (sender, spans) = mpsc::channel(batching.queue);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = Queue {
            sender,
            dropped: Arc::clone(&dropped),
        };
        let (stop, stopped) = oneshot::channel();
        let work = Work {
            exporter,
            transport,
            batching,
            dropped,
            told: None,
        };
        let mut task = JoinSet::new();
        task.spawn(work.run(spans, stopped));
        (queue, Self { stop, task })
    }

    /// Exports what is left and waits for the task; aborts it after five seconds.
    pub(super) async fn shutdown(mut self) {
        // An error says that the task has ended already, which is what is wanted.
        let _ = self.stop.send(());
        let ended = timeout(SHUTDOWN_GRACE, self.task.join_next()).await;
        if ended.is_err() {
            tracing::warn!("the last spans could not be exported in time");
        }
        self.task.shutdown().await;
    }
}

struct Work {
    exporter: SpanExporter,
    transport: Arc<Transport>,
    batching: Batching,
    dropped: Arc<AtomicU64>,
    /// The failure that was told last, so that a collector that stays away is told once.
    told: Option<String>,
}

impl Work {
    async fn run(
        mut self,
        mut spans: mpsc::Receiver<SpanData>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut batch = Vec::new();
        let mut ending = false;
        while !ending {
            ending = self.fill(&mut batch, &mut spans, &mut stopped).await;
            self.export(std::mem::take(&mut batch)).await;
        }
        spans.close();
        while spans.recv_many(&mut batch, self.batching.batch).await > 0 {
            self.export(std::mem::take(&mut batch)).await;
        }
        // The exporter only lets go of its client here.
        let _ = self.exporter.shutdown();
    }

    /// Collects a batch: until it is full, or its first span has waited for the delay. `true` when it is to end.
    async fn fill(
        &self,
        batch: &mut Vec<SpanData>,
        spans: &mut mpsc::Receiver<SpanData>,
        stopped: &mut oneshot::Receiver<()>,
    ) -> bool {
        // None while nothing waits: an idle daemon has no timer here.
        let mut due = None;
        while batch.len() < self.batching.batch {
            let room = self.batching.batch - batch.len();
            tokio::select! {
                biased;
                _ = &mut *stopped => return true,
                count = spans.recv_many(batch, room) => {
                    if count == 0 {
                        return true;
                    }
                    due.get_or_insert_with(|| Instant::now() + self.batching.delay);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return false,
            }
        }
        false
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len();
        let dropped = self.dropped.load(Ordering::Relaxed);
        match self.exporter.export(batch).await {
            Ok(()) => {
                if self.told.take().is_some() {
                    tracing::info!(dropped, "spans are exported again");
                }
            }
            Err(error) => {
                let cause = self
                    .transport
                    .take_error()
                    .unwrap_or_else(|| error.to_string());
                if self.told.as_ref() != Some(&cause) {
                    tracing::warn!(lost = count, dropped, %cause, "spans cannot be exported");
                    self.told = Some(cause);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batching_follows_the_environment_within_bounds() {
        let with = |name: &'static str, value: &'static str| {
            Batching::from_env(&move |known: &str| (known == name).then(|| value.to_owned()))
        };
        let default = Batching {
            queue: 2048,
            batch: 512,
            delay: Duration::from_secs(5),
        };
        assert_eq!(with("", ""), default);
        assert_eq!(
            with("OTEL_BSP_SCHEDULE_DELAY", "20").delay,
            Duration::from_millis(20)
        );
        assert_eq!(with("OTEL_BSP_MAX_QUEUE_SIZE", "99999999").queue, MAX_QUEUE);
        let small = with("OTEL_BSP_MAX_QUEUE_SIZE", "10");
        assert_eq!(
            (small.queue, small.batch),
            (10, 10),
            "a batch fits the queue"
        );
        assert_eq!(with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0").batch, 1);
        assert_eq!(with("OTEL_BSP_MAX_QUEUE_SIZE", "many"), default);
    }
}
