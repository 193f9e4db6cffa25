//! Removes objects that nobody uses any more.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use pawl_lock::{BackendError, Key};
use rand::RngExt as _;
use tokio::time::sleep;

use super::{
    Kubernetes, Names,
    budget::Urgency,
    config::Sweep,
    new_object,
    record::{self, Record},
    server::Refused,
};

/// How many objects a page has.
const PAGE: u32 = 200;
/// The most objects that one sweep removes.
const MOST: usize = 1_000;

impl Kubernetes {
    /// Sweeps now and then, if this process used the scope at all. Does not end.
    pub(super) async fn keep_sweeping(&self) {
        let every = self.config.sweep.every;
        loop {
            sleep(some_of(every)).await;
            if !self.known.has_written() {
                continue;
            }
            match self.sweep().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(count, scope = %self.names.scope(), "unused Leases were removed");
                }
                Err(error) => tracing::debug!(%error, "unused Leases could not be removed"),
            }
        }
    }

    /// Looks through the scope, if nobody else did lately. Answers how many objects were removed.
    ///
    /// Only what was not written for long is a candidate, by wall clocks, which costs nothing if they are wrong: a
    /// candidate is removed after it was *seen* to stand unchanged for as long as anything in it lasts, and only in
    /// exactly that version.
    async fn sweep(&self) -> Result<usize, BackendError> {
        if !self.is_sweeper().await? {
            return Ok(0);
        }
        let wall = (self.config.wall)();
        let (mut candidates, mut longest, mut from) = (Vec::new(), Duration::ZERO, None::<String>);
        loop {
            let page = self
                .server
                .list(&self.selector(), PAGE, from.as_deref())
                .await?;
            for lease in page.items {
                if let Some(lasts) = unused(&lease, &self.names, wall, self.config.sweep) {
                    longest = longest.max(lasts);
                    candidates.push(bare(&lease));
                }
            }
            from = page.metadata.continue_.filter(|next| !next.is_empty());
            if from.is_none() || candidates.len() >= MOST {
                break;
            }
        }
        if candidates.is_empty() {
            return Ok(0);
        }
        sleep(longest + Duration::from_secs(1)).await;
        let mut removed = 0;
        for candidate in candidates.iter().take(MOST) {
            removed += usize::from(self.server.delete(candidate).await?);
        }
        Ok(removed)
    }

    /// Whether it is this process that sweeps this time: the first to write down that it does.
    async fn is_sweeper(&self) -> Result<bool, BackendError> {
        let name = self.names.sweep();
        let marker = self.server.get(&name, Urgency::Wanted).await?;
        let now = (self.config.wall)();
        let last = marker
            .as_ref()
            .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        let every = i64::try_from(self.config.sweep.every.as_millis()).unwrap_or(i64::MAX);
        if last.is_some_and(|last| now.abs_diff(last.0.as_millisecond()) < every.unsigned_abs() / 2)
        {
            return Ok(false);
        }
        let mut marker = marker.unwrap_or_else(|| new_object(&name));
        let spec = marker.spec.get_or_insert_default();
        spec.renew_time = Timestamp::from_millisecond(now).ok().map(MicroTime);
        match self.server.write(&marker, Urgency::Wanted).await {
            Ok(_) => Ok(true),
            Err(Refused::Changed) => Ok(false),
            Err(Refused::Error(error)) => Err(error),
        }
    }
}

/// From half of it to all of it, so that sidecars do not do it together.
fn some_of(every: Duration) -> Duration {
    rand::rng().random_range(every / 2..=every)
}

/// How long what is in an object lasts at most, if it is one that nobody used for long; nothing if it is not, or is not
/// understood.
fn unused(lease: &Lease, names: &Names, wall: i64, sweep: Sweep) -> Option<Duration> {
    let key = lease.metadata.annotations.as_ref()?.get(record::KEY)?;
    let key = Key::try_new(key).ok()?;
    let record = Record::read(lease, names, &key).ok()?;
    let kept = if record.fence > 0 {
        sweep.unfenced_for
    } else {
        sweep.unused_for
    };
    let age =
        Duration::from_millis(u64::try_from(wall.saturating_sub(record.touched)).unwrap_or(0));
    // A token from a clock that ran ahead must not be forgotten before the others' clocks have passed it.
    let is_passed = record.token < u64::try_from(wall).unwrap_or(0);
    (age > kept && is_passed).then(|| record.lasts())
}

/// What is needed to remove exactly this version.
fn bare(lease: &Lease) -> Lease {
    let mut bare = new_object(lease.metadata.name.as_deref().unwrap_or_default());
    bare.metadata.uid.clone_from(&lease.metadata.uid);
    bare.metadata
        .resource_version
        .clone_from(&lease.metadata.resource_version);
    bare
}
