//! Hears of changes.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, WatchEvent, WatchParams};
use pawl_lock::{BackendError, backend::BackendEvent};
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Kubernetes,
    errors::{self, Doing},
    known::{Watch, number},
    record,
};

/// How long one watch lasts before the server ends it, in seconds. It is begun again where it ended.
const LASTS: std::ops::RangeInclusive<u32> = 240..=290;
/// How long it may take until a watch stands.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long nothing may be heard: the server sends a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(100);
/// How often it is looked whether there is still something to watch for.
const IDLE_CHECK: Duration = Duration::from_secs(10);
/// After how many failures a watch that nobody needs any more is given up.
const PATIENT_FOR: u32 = 3;
/// The bounds of the backoff after a watch failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How a watch ended.
enum Ended {
    /// Nothing is to be watched for any more.
    Idle,
    /// As it must, now and then.
    InTime,
    /// The server does not know the version any more.
    Gone,
    /// Something broke.
    Failed(String),
}

impl Kubernetes {
    /// Watches the scope while something of this process is held or waited for. Does not end.
    pub(super) async fn keep_watching(&self) {
        if let Watch::On(version) = self.known.watch() {
            self.known.set_watch(Watch::From(version.to_string()));
        }
        loop {
            let Watch::From(version) = self.known.watch() else {
                self.known.wanted.notified().await;
                continue;
            };
            self.watch_from(version).await;
        }
    }

    async fn watch_from(&self, mut version: String) {
        let mut failures = 0_u32;
        // Whether events may have been missed since the version.
        let mut has_gap = false;
        loop {
            self.known.set_watch(Watch::On(number(Some(&version))));
            match self.hear(&mut version, &mut has_gap, &mut failures).await {
                Ended::Idle => return,
                Ended::InTime => {}
                Ended::Gone => {
                    has_gap = true;
                    match self.server.list(&self.selector(), 1, None).await {
                        Ok(list) => version = list.metadata.resource_version.unwrap_or_default(),
                        Err(error) => tracing::debug!(%error, "the Leases cannot be listed"),
                    }
                    failures += 1;
                    sleep(backoff(failures)).await;
                }
                Ended::Failed(error) => {
                    tracing::debug!(%error, "the watch of the Leases broke");
                    has_gap = true;
                    failures += 1;
                    sleep(backoff(failures)).await;
                }
            }
            self.prune();
            if failures > PATIENT_FOR && self.known.stop_watch_if_idle() {
                return;
            }
        }
    }

    /// One watch, from a version on.
    async fn hear(&self, version: &mut String, has_gap: &mut bool, failures: &mut u32) -> Ended {
        let client = match self.server.client().await {
            Ok(client) => client,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let leases: Api<Lease> = Api::namespaced(client, self.server.namespace());
        let started = Instant::now();
        let lasts = rand::rng().random_range(LASTS);
        let params = WatchParams::default()
            .labels(&self.selector())
            .timeout(lasts);
        let mut events = match timeout(CONNECTING, leases.watch(&params, version)).await {
            Ok(Ok(events)) => events.map_err(|error| ended(&error)).boxed(),
            Ok(Err(error)) => return ended(&error),
            Err(_) => return Ended::Failed("no answer".to_owned()),
        };
        if std::mem::take(has_gap) {
            self.ear.tell(BackendEvent::Resync);
        }
        let mut silent = Duration::ZERO;
        loop {
            let Ok(event) = timeout(IDLE_CHECK, events.next()).await else {
                silent += IDLE_CHECK;
                self.prune();
                if self.known.stop_watch_if_idle() {
                    return Ended::Idle;
                }
                if silent >= SILENCE {
                    return Ended::Failed("nothing was heard for too long".to_owned());
                }
                continue;
            };
            silent = Duration::ZERO;
            match event {
                // A connection that breaks looks like an end.
                None if started.elapsed() < Duration::from_secs(lasts.into()) => {
                    return Ended::Failed("it ended too soon".to_owned());
                }
                None => return Ended::InTime,
                Some(Err(ended)) => return ended,
                Some(Ok(event)) => {
                    if let Some(ended) = self.heard(event, version) {
                        return ended;
                    }
                    *failures = 0;
                }
            }
        }
    }

    fn heard(&self, event: WatchEvent<Lease>, version: &mut String) -> Option<Ended> {
        let (lease, is_gone) = match event {
            WatchEvent::Added(lease) | WatchEvent::Modified(lease) => (lease, false),
            WatchEvent::Deleted(lease) => (lease, true),
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                return None;
            }
            WatchEvent::Error(status) => {
                return Some(if status.code == 410 {
                    Ended::Gone
                } else {
                    Ended::Failed(status.message.clone())
                });
            }
        };
        if let Some(next) = &lease.metadata.resource_version {
            version.clone_from(next);
        }
        for event in self.known.changed(&lease, is_gone, self.moment()) {
            self.ear.tell(event);
        }
        None
    }

    /// What the scope's objects are found by.
    pub(super) fn selector(&self) -> String {
        format!("{}={}", record::SCOPE_LABEL, self.names.label())
    }
}

fn ended(error: &kube::Error) -> Ended {
    match error {
        kube::Error::Api(status) if status.code == 410 => Ended::Gone,
        error => {
            let error: BackendError = errors::of_call(error, Doing::Watch);
            Ended::Failed(error.to_string())
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, last) = BACKOFF;
    let bound = first.saturating_mul(1 << failures.min(10)).min(last);
    rand::rng().random_range(Duration::ZERO..=bound)
}
