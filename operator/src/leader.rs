//! Who of the operator's replicas writes: the holder of one Lease object.
//!
//! All replicas answer the webhook; one of them, the leader, brings policies to pods and writes their status.
//!
//! # How it works
//! The Lease is what client-go's leader election uses, so `kubectl get lease` shows who leads. It is taken and renewed by
//! a compare on `resourceVersion`. As there, times that another machine wrote are not believed: a holder is over when a
//! follower has seen the object stand unchanged for its duration on its own clock (`sighting`).
//!
//! # What it guarantees
//! A leader counts from before its last renewal was sent, on `CLOCK_BOOTTIME`. Whoever writes asks
//! [`Leadership::check`] first, which refuses while there is still time for a call that is on its way: a leader that was
//! paused or cut off writes nothing after its successor began. What is left, a request that the network held back
//! for longer than [`CALL`], meets the `resourceVersion` that status is written with.
//!
//! The usual library (kube-lease-manager) compares the holder's wall clock with its own, and does not tell when it last
//! renewed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use pawl_crds::names::FIELD_MANAGER;
use pawl_kit::{clock::Clock, drain::Signal};
use pawl_lock::Instant;
use prometheus::IntGauge;
use rand::RngExt as _;

mod record;
mod sighting;

use sighting::{Move, Sighting};

/// How long the Lease says that a holder lives without a renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long its holder believes in it: a hundredth less, for clocks that run at different speeds.
const BELIEF: Duration = Duration::from_millis(14_850);
/// How often a holder renews: two renewals may fail before it stops writing.
const RENEW: Duration = Duration::from_secs(5);
/// Between two tries of a follower, and after a failed call; less by up to a half, so that replicas do not move in step.
const RETRY: Duration = Duration::from_secs(2);
/// The longest that one call to the API server takes, here and wherever a leader writes.
pub const CALL: Duration = Duration::from_secs(3);

/// Whether this process leads. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    clock: Clock,
    /// Nanoseconds of the clock at which it ends; 0 for a process that does not lead.
    deadline: Arc<AtomicU64>,
}

/// A write was refused because this process does not lead, or not for long enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this replica does not lead")]
pub struct NotLeading;

impl Leadership {
    /// Of nobody yet.
    pub fn new(clock: Clock) -> Self {
        let deadline = Arc::default();
        Self { clock, deadline }
    }

    /// Of a leader that won just now.
    #[cfg(test)]
    pub(crate) fn leading(clock: Clock) -> Self {
        let sent = clock.now();
        let leadership = Self::new(clock);
        leadership.renewed(sent);
        leadership
    }

    /// Whether a write may begin now: it leads, and will for another [`CALL`].
    ///
    /// # Errors
    /// [`NotLeading`].
    pub fn check(&self) -> Result<(), NotLeading> {
        let until = self.clock.now().saturating_add(CALL).as_nanos();
        if until < self.deadline.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(NotLeading)
        }
    }

    /// Whether it leads now.
    pub fn is_leading(&self) -> bool {
        self.clock.now().as_nanos() < self.deadline.load(Ordering::Acquire)
    }

    fn deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// From a renewal that was sent at `sent`.
    fn renewed(&self, sent: Instant) {
        let deadline = sent.saturating_add(BELIEF);
        self.deadline.store(deadline.as_nanos(), Ordering::Release);
    }

    fn end(&self) {
        self.deadline.store(0, Ordering::Release);
    }
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    leadership: Leadership,
    gauge: IntGauge,
}

/// What is said about the election.
#[derive(Debug)]
pub struct Config {
    /// Namespace of the Lease: the operator's own.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this replica; a few random characters are added, so that a restarted one is not taken for the one before.
    pub replica: String,
    /// The clock that leadership is counted on.
    pub clock: Clock,
    /// Set to 1 while this replica leads.
    pub gauge: IntGauge,
}

/// Why a holder stopped.
#[derive(Debug)]
enum End {
    /// Another one holds the Lease.
    Deposed,
    /// It could not be renewed in time.
    Expired,
}

impl Election {
    /// Takes part from [`Election::run`] on.
    pub fn new(client: Client, config: Config) -> Self {
        let Config {
            namespace,
            name,
            replica,
            clock,
            gauge,
        } = config;
        Self {
            leases: Api::namespaced(client, &namespace),
            name,
            identity: format!("{replica}_{:08x}", rand::rng().random::<u32>()),
            leadership: Leadership::new(clock.clone()),
            clock,
            gauge,
        }
    }

    /// What writers ask.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Follows and leads until the drain. `work` is begun each time that this replica becomes the leader, and dropped when
    /// it is one no more; it should not end by itself. At the drain the work is dropped first, then the Lease is let go,
    /// so that the next one begins at once.
    pub async fn run<W: Future<Output = ()>>(self, drain: Signal, work: impl Fn() -> W) {
        loop {
            let lease = tokio::select! {
                biased;
                () = drain.draining() => return,
                lease = self.win() => lease,
            };
            self.gauge.set(1);
            tracing::info!(identity = self.identity, "leading");
            let mut held = lease;
            let ended = tokio::select! {
                biased;
                () = drain.draining() => None,
                end = self.keep(&mut held) => Some(end),
                () = work() => None,
            };
            self.leadership.end();
            self.gauge.set(0);
            match ended {
                Some(End::Deposed) => tracing::warn!("another replica leads"),
                Some(End::Expired) => tracing::warn!("the Lease could not be renewed in time"),
                None => {
                    self.release(held).await;
                    if drain.is_draining() {
                        return;
                    }
                }
            }
        }
    }

    /// Tries until the Lease is ours; the object as it was written. Cancel safe: what was won and is not renewed, ends.
    async fn win(&self) -> Lease {
        let mut sighting = Sighting::default();
        loop {
            match self.try_once(&mut sighting).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the election cannot go on");
                }
            }
            tokio::time::sleep(jittered(RETRY)).await;
        }
    }

    async fn try_once(&self, sighting: &mut Sighting) -> Result<Option<Lease>, CallError> {
        let seen = call(self.leases.get_opt(&self.name)).await?;
        let sent = self.clock.now();
        let written = match sighting.judge(seen.as_ref(), &self.identity, sent) {
            Move::Wait => return Ok(None),
            Move::Create => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                };
                let spec = Some(record::taken(None, &self.identity, self.clock.wall()));
                let lease = Lease { metadata, spec };
                call(self.leases.create(&params(), &lease)).await
            }
            Move::Take => {
                let mut lease = seen.unwrap_or_default();
                let before = lease.spec.take();
                lease.spec = Some(record::taken(
                    before.as_ref(),
                    &self.identity,
                    self.clock.wall(),
                ));
                call(self.leases.replace(&self.name, &params(), &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                self.leadership.renewed(sent);
                Ok(Some(lease))
            }
            // Another replica was faster.
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews until that is over.
    async fn keep(&self, held: &mut Lease) -> End {
        let mut pause = RENEW;
        loop {
            let again = self.clock.now().saturating_add(pause);
            self.clock
                .sleep_until(again.min(self.leadership.deadline()))
                .await;
            if !self.leadership.is_leading() {
                return End::Expired;
            }
            match self.renew(held).await {
                Ok(true) => pause = RENEW,
                Ok(false) => return End::Deposed,
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the Lease was not renewed");
                    pause = jittered(RETRY);
                }
            }
        }
    }

    /// One renewal; false if another one holds the Lease.
    async fn renew(&self, held: &mut Lease) -> Result<bool, CallError> {
        let sent = self.clock.now();
        let mut next = held.clone();
        next.spec = held
            .spec
            .as_ref()
            .map(|spec| record::renewed(spec, self.clock.wall()));
        match call(self.leases.replace(&self.name, &params(), &next)).await {
            Ok(lease) => {
                *held = lease;
                self.leadership.renewed(sent);
                Ok(true)
            }
            Err(error) if error.is_conflict() || error.is_missing() => {
                // Our own last write may have arrived without its answer, or somebody labelled the object.
                let Some(lease) = call(self.leases.get_opt(&self.name)).await? else {
                    return Ok(false);
                };
                let ours = record::holder(&lease) == Some(self.identity.as_str());
                *held = lease;
                if ours { Err(error) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the Lease go, if it is still ours. An error is only told: it ends by itself.
    async fn release(&self, mut held: Lease) {
        held.spec = held
            .spec
            .as_ref()
            .map(|spec| record::released(spec, self.clock.wall()));
        match call(self.leases.replace(&self.name, &params(), &held)).await {
            Ok(_) => tracing::info!(lease = self.name, "leads no more: let go"),
            Err(error) => {
                tracing::info!(%error, lease = self.name, "leads no more: it ends by itself");
            }
        }
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// From half of `most` up to it.
fn jittered(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Why a call to the API server gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It said no, or could not be reached.
    #[error("{0}")]
    Refused(#[from] kube::Error),
    /// It did not answer in time; what was asked may have been done.
    #[error("the API server did not answer within {} s", CALL.as_secs())]
    Silent,
}

impl CallError {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(kube::Error::Api(status)) => Some(status.code),
            Self::Refused(_) | Self::Silent => None,
        }
    }

    /// Somebody else wrote in between.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The object is not there.
    pub fn is_missing(&self) -> bool {
        self.code() == Some(404)
    }

    /// Rights are missing, or an admission policy refuses it.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// A word for the log.
    pub fn category(&self) -> &'static str {
        match self.code() {
            Some(409) => "conflict",
            Some(404) => "missing",
            Some(403) => "forbidden",
            Some(_) => "refused",
            None if matches!(self, Self::Silent) => "silent",
            None => "unreachable",
        }
    }
}

/// One call, for at most [`CALL`]. Cancel safe as the call is: a write may have been done all the same.
///
/// # Errors
/// [`CallError`].
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Silent),
    }
}

#[cfg(test)]
mod tests;
