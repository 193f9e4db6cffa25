//! The backend `kubernetes`: Leases (`coordination.k8s.io/v1`) in the policy's namespace, and no other server.
//!
//! # How it works
//! * **One Lease a key.** Its spec is what every program understands; holders, queue, tokens and the fence are in
//!   annotations ([`record`]). A Lease that another program holds by its spec (client-go's leader election) is held,
//!   and one that Pawl holds is held for that program.
//! * **Compare on every write.** An object is read (or known from the last answer or the watch), changed, and written
//!   with the `resourceVersion` it was read at ([`decide`] says what changes). A conflict is read again and tried
//!   again, a bounded number of times. Nothing is ever decided on an old version, so it does not matter how old it is.
//! * **Local observation.** A hold is over for others when they have seen it stand unchanged for its ttl on their own
//!   boot clock ([`sights`]). The holder counts from before its write was sent, so it finds its end first.
//! * **Abandonment** writes in any case, also where nothing is to be taken out: whatever is still on its way to the
//!   version before it conflicts. Where no object is, one is made, so that a late one conflicts too. So one write
//!   settles it.
//! * **Wake-up** by one watch a scope, only while something of this process is held or waited for ([`watch`]).
//! * **Token:** the last one and 1, larger than `leaseTransitions`, never below the wall clock in milliseconds. It is
//!   in an annotation, which leader election leaves alone; after the object was deleted the clock went on.
//!
//! # What it must not do
//! Trust a time that another machine wrote; grant on an object that it does not understand; repeat a call by itself
//! other than after a conflict; build a client before it is asked for something.

use std::{pin::Pin, sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use pawl_lock::{
    Backend, BackendError, FencingToken, Key, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, BackendFuture, Category,
        Class, Events, FenceVerdict, Finding, Inspection, Outcome, Profile, ReleaseRequest,
        Released, RenewRequest, Renewed,
    },
};
use rand::RngExt as _;
use tokio::time::sleep;

use super::ear::{Ear, Hearing};
pub use budget::Budget;
use budget::Urgency;
pub use config::{ApiAccess, KubernetesConfig, Now, Sweep, WallMillis};
use decide::{Changes, View};
use known::{Known, Moment, Own, number};
use name::Names;
use record::{NoRoom, Record};
use server::{Refused, Server};

mod budget;
mod check;
mod config;
mod decide;
mod errors;
mod known;
mod name;
mod record;
mod server;
mod sights;
mod sweep;
mod watch;

/// The shortest ttl: every renewal is a write to the API server.
pub const MIN_TTL: Duration = Duration::from_secs(5);
/// How often a waiter should ask again: each second time costs a write.
pub const POLL: Duration = Duration::from_secs(5);
/// How often one call tries to write an object that others write too.
const MAX_TRIES: u32 = 24;
/// The bounds of the pause before the next try.
const CONFLICT_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// A backend on the Leases of one namespace.
pub struct Kubernetes {
    names: Names,
    server: Server,
    known: Known,
    ear: Arc<Ear>,
    config: KubernetesConfig,
    rights: check::Rights,
}

impl Kubernetes {
    /// A backend that connects at its first call.
    pub fn new(config: KubernetesConfig) -> Self {
        let names = Names::new(config.scope.clone(), &config.policy);
        Self {
            server: Server::new(&config),
            known: Known::new(names.clone()),
            names,
            ear: Arc::default(),
            rights: check::Rights::default(),
            config,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: (self.config.now)(),
            wall: (self.config.wall)(),
            salt: rand::random(),
        }
    }

    /// Changes a key's object as `act` says, and answers what it answered when the change is there.
    ///
    /// `act` may run more than once, each time on another version. An answer that needs no change is given only on a
    /// version that was read in this call.
    async fn change<T>(
        &self,
        key: &Key,
        urgency: Urgency,
        mut act: impl FnMut(&mut Record, &View<'_>, &mut Changes) -> Result<T, NoRoom>,
    ) -> Result<(T, Option<Lease>), BackendError> {
        let name = self.names.object(key);
        let mut known = self.known.latest(&name);
        let mut is_fresh = false;
        for tries in 0..MAX_TRIES {
            if known.is_none() && !is_fresh {
                known = self.server.get(&name, urgency).await?;
                self.known
                    .saw(&name, key, known.as_ref(), (self.config.now)());
                is_fresh = true;
            }
            let mut changes = Changes::default();
            let moment = self.moment();
            let decided = self
                .known
                .decide(&name, key, known.as_ref(), moment, |record, view| {
                    act(record, view, &mut changes)
                });
            let (answer, mut record) = match decided {
                Ok((Ok(answer), record)) => (answer, record),
                // Somebody may have repaired or emptied it meanwhile.
                _ if !is_fresh => {
                    known = None;
                    continue;
                }
                Ok((Err(why), _)) => return Err(errors::no_room(&name, why)),
                Err(why) => return Err(errors::garbled(&name, &why)),
            };
            if !changes.is_needed {
                if is_fresh {
                    return Ok((answer, known));
                }
                known = None;
                continue;
            }
            let mut lease = known.take().unwrap_or_else(|| new_object(&name));
            record
                .write(&mut lease, &self.names, key, moment.wall)
                .map_err(|why| errors::no_room(&name, why))?;
            // From here on it may be there, whatever comes of this call.
            self.known.forget(&name);
            self.known
                .tries(&name, key, &changes.wrote, (self.config.now)());
            match self.server.write(&lease, urgency).await {
                Ok(written) => {
                    self.known
                        .saw(&name, key, Some(&written), (self.config.now)());
                    return Ok((answer, Some(written)));
                }
                Err(Refused::Changed) => {
                    is_fresh = false;
                    sleep(pause(tries)).await;
                }
                Err(Refused::Error(error)) => return Err(error),
            }
        }
        let message = format!("too many write the Lease {name} at once");
        Err(BackendError::new(
            Category::Unavailable,
            Outcome::NotApplied,
            message,
        ))
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired, BackendError> {
        self.room_for(request)?;
        self.expects(request);
        let changed = self.change(&request.key, Urgency::Wanted, |record, view, changes| {
            decide::acquire(record, view, request, changes)
        });
        let (acquired, lease) = changed.await?;
        Ok(self.acquired(request, acquired, lease.as_ref()))
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, BackendError> {
        let changed = self.change(&request.key, Urgency::Held, |record, view, changes| {
            Ok(decide::renew(record, view, request, changes))
        });
        let (renewed, lease) = changed.await?;
        let name = self.names.object(&request.key);
        match renewed {
            Renewed::Extended { .. } => {
                let version = version(lease.as_ref());
                if let Some(before) = self.known.extended(
                    &name,
                    request.hold,
                    request.ttl,
                    number(version),
                    (self.config.now)(),
                ) {
                    self.config.budget.let_go(before.as_duration());
                    self.config.budget.holds(request.ttl.as_duration());
                }
            }
            Renewed::NotOwner => self.owns(&request.key, &Own::Nothing(request.hold), None),
        }
        Ok(renewed)
    }

    async fn release(&self, request: &ReleaseRequest) -> Result<Released, BackendError> {
        // Before it is written, so that its absence is not taken for a loss.
        self.owns(&request.key, &Own::Nothing(request.hold), None);
        if let Some(next) = &request.next {
            self.expects(next);
        }
        let changed = self.change(&request.key, Urgency::Held, |record, view, changes| {
            let was_owner = decide::release(record, view, request.hold, changes);
            let next = match &request.next {
                Some(next) => Some(decide::acquire(record, view, next, changes)?),
                None => None,
            };
            Ok(Released { was_owner, next })
        });
        let (mut released, lease) = changed.await?;
        if let Some((next, acquired)) = request.next.as_ref().zip(released.next.take()) {
            released.next = Some(self.acquired(next, acquired, lease.as_ref()));
        }
        Ok(released)
    }

    async fn abandon(&self, request: &AbandonRequest) -> Result<Abandoned, BackendError> {
        self.owns(&request.key, &Own::Nothing(request.hold), None);
        let changed = self.change(&request.key, Urgency::Held, |record, view, changes| {
            decide::abandon(record, view, request.hold, changes);
            Ok(())
        });
        changed.await?;
        Ok(Abandoned::Settled)
    }

    async fn inspect(&self, key: &Key) -> Result<Inspection, BackendError> {
        let changed = self.change(key, Urgency::Wanted, |record, view, _| {
            Ok(decide::inspect(record, view))
        });
        Ok(changed.await?.0)
    }

    async fn fence(&self, key: &Key, token: FencingToken) -> Result<FenceVerdict, BackendError> {
        let changed = self.change(key, Urgency::Wanted, |record, _, changes| {
            if let Ok(highest) = FencingToken::try_new(record.fence)
                && token < highest
            {
                return Ok(FenceVerdict::Stale { highest });
            }
            changes.is_needed = token.get() > record.fence;
            record.fence = token.get();
            Ok(FenceVerdict::Newest)
        });
        Ok(changed.await?.0)
    }

    /// Counts holds no more that ended without a word, as those do that are lost.
    fn prune(&self) {
        for ttl in self.known.prune((self.config.now)()) {
            self.config.budget.let_go(ttl.as_duration());
        }
    }

    /// An error if the renewals of one more hold would be more than the API server is to be asked.
    fn room_for(&self, request: &AcquireRequest) -> Result<(), BackendError> {
        let budget = &self.config.budget;
        if budget.has_room(request.ttl.as_duration()) {
            return Ok(());
        }
        self.prune();
        if budget.has_room(request.ttl.as_duration()) {
            return Ok(());
        }
        let message = "this sidecar holds as many Leases as it may renew (see docs/backends.md): use a longer ttl, \
                       fewer keys, or another backend";
        Err(BackendError::new(
            Category::Full,
            Outcome::NotApplied,
            message,
        ))
    }

    /// Before an attempt is written: its turn may come before the answer does.
    fn expects(&self, request: &AcquireRequest) {
        if request.place.is_some() {
            self.owns(&request.key, &Own::Place(request), None);
        }
    }

    /// Takes note of what became of an attempt.
    fn acquired(
        &self,
        request: &AcquireRequest,
        acquired: Acquired,
        lease: Option<&Lease>,
    ) -> Acquired {
        match acquired {
            Acquired::Granted(mut granted) => {
                let own = Own::Hold(request);
                let name = self.names.object(&request.key);
                let now = (self.config.now)();
                let owned = self
                    .known
                    .own(&name, &request.key, &own, number(version(lease)), now);
                self.counts(owned.before, Some(request.ttl));
                self.watched(&request.key, lease);
                granted.session = owned.session;
                Acquired::Granted(granted)
            }
            Acquired::Busy(busy) => {
                let own = match request.place {
                    Some(_) => Own::Place(request),
                    None => Own::Nothing(request.hold),
                };
                self.owns(&request.key, &own, lease);
                Acquired::Busy(busy)
            }
        }
    }

    fn owns(&self, key: &Key, own: &Own<'_>, lease: Option<&Lease>) {
        let name = self.names.object(key);
        let owned = self
            .known
            .own(&name, key, own, number(version(lease)), (self.config.now)());
        self.counts(owned.before, None);
        if let Own::Place(_) = own {
            self.watched(key, lease);
        }
    }

    fn counts(&self, before: Option<Ttl>, after: Option<Ttl>) {
        if let Some(before) = before {
            self.config.budget.let_go(before.as_duration());
        }
        if let Some(after) = after {
            self.config.budget.holds(after.as_duration());
        }
    }

    /// Makes sure that what happens to the object after this version is heard.
    fn watched(&self, key: &Key, lease: Option<&Lease>) {
        if let Some(version) = version(lease)
            && self.known.watch_from(version)
        {
            self.ear.tell(BackendEvent::Turn { key: key.clone() });
        }
    }
}

fn version(lease: Option<&Lease>) -> Option<&str> {
    lease?.metadata.resource_version.as_deref()
}

fn new_object(name: &str) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.name = Some(name.to_owned());
    lease
}

/// Full jitter, from the shortest to the longest bound.
fn pause(tries: u32) -> Duration {
    let (first, last) = CONFLICT_PAUSE;
    let bound = first.saturating_mul(1 << tries.min(10)).min(last);
    rand::rng().random_range(Duration::ZERO..=bound)
}

impl Backend for Kubernetes {
    fn profile(&self) -> Profile {
        Profile {
            name: "kubernetes",
            class: Class::Safe,
            is_queued: true,
            min_ttl: Ttl::try_new(MIN_TTL).unwrap_or(Ttl::MIN),
            can_retain: true,
        }
    }

    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BackendFuture<'a, Acquired> {
        Box::pin(self.acquire(request))
    }

    fn renew<'a>(&'a self, request: &'a RenewRequest) -> BackendFuture<'a, Renewed> {
        Box::pin(self.renew(request))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> BackendFuture<'a, Released> {
        Box::pin(self.release(request))
    }

    fn abandon<'a>(&'a self, request: &'a AbandonRequest) -> BackendFuture<'a, Abandoned> {
        Box::pin(self.abandon(request))
    }

    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection> {
        Box::pin(self.inspect(key))
    }

    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict> {
        Box::pin(self.fence(key, token))
    }

    fn check(&self) -> BackendFuture<'_, Vec<Finding>> {
        Box::pin(self.check())
    }

    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let hearing = Hearing::new(Arc::clone(&self.ear), events);
        Box::pin(async move {
            let _hearing = hearing;
            tokio::join!(self.keep_watching(), self.keep_sweeping());
        })
    }
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes")
            .field("namespace", &self.config.namespace)
            .field("scope", &self.names.scope())
            .finish_non_exhaustive()
    }
}
