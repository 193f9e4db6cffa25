//! What a backend must do: one trait for all of them.
//!
//! The contract is written for servers that are very different: a script in Redis, a majority of Redis nodes, a
//! session lock or a row in Postgres, a lease and a transaction in etcd, ephemeral sequential nodes in ZooKeeper, a
//! compared `resourceVersion` in Kubernetes, a map in memory. What they have in common is an *attempt*, named by a
//! [`HoldId`], that is asked for, may wait in a queue, is held, renewed and let go.
//!
//! # Rules for every method
//! * **Idempotent by [`HoldId`].** The same call with the same id again has the same outcome, so that an answer that
//!   was lost can be read back by asking again. An acquire of a hold that is already held extends it by `ttl` from
//!   now and answers with the token it got first.
//! * **An error says whether the call may have had its effect** ([`BackendError::outcome`]). When in doubt it is
//!   [`Outcome::Unknown`].
//! * **Cancel safety:** dropping a future leaves the outcome unknown, never the backend in a state that a later call
//!   cannot repair. The caller applies the time limit.
//! * **Nothing is retried inside**, except reading back an outcome and following a redirect: retries are the
//!   caller's, which knows what is still wanted.
//! * Every call is one round trip where the server allows it; `docs/backends.md` states the number.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use error::{BackendError, Category, Outcome, Retry};

use crate::{
    lease::{Mode, Order},
    name::{HoldId, Key, Owner},
    time::Ttl,
    token::{BackendToken, FencingToken},
};

mod error;

/// A future that a [`Backend`] returns.
pub type BackendFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// A lock service, bound to the scope (namespace and policy, or prefix) that keeps its keys apart from others'.
pub trait Backend: Send + Sync + 'static {
    /// What it is and can do. Constant.
    fn profile(&self) -> Profile;

    /// Asks for a hold.
    ///
    /// Granted if no hold of another id stands in the way (by [`Mode::is_compatible`]), the quiet time of a lost
    /// holder is over and, under [`Order::Fifo`], nobody with an older place is ahead who could not share the hold.
    /// Otherwise busy; then, with [`AcquireRequest::place`], the attempt has a place in the queue (a place that it
    /// had keeps or takes the age given now), the holder's sidecar is told [`BackendEvent::Wanted`], and this sidecar
    /// is told [`BackendEvent::Turn`] when it should ask again. Without it any place the attempt had is given up.
    ///
    /// The grant's token is larger than every token granted before it for this key, also across restarts, expiry and
    /// loss of the server's memory (as far as [`Class`] promises).
    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BackendFuture<'a, Acquired>;

    /// Extends a hold to `ttl` from now, if it is still this id's; or says that it is not. Never takes a lock that is
    /// free: a hold that ended stays ended.
    fn renew<'a>(&'a self, request: &'a RenewRequest) -> BackendFuture<'a, Renewed>;

    /// Lets a hold go (compare-and-delete by id), tells the next in the queue, and, in the same round trip where the
    /// server allows it, asks for [`ReleaseRequest::next`].
    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> BackendFuture<'a, Released>;

    /// Makes an attempt whose outcome is not known, or a place in the queue, go away.
    ///
    /// [`Abandoned::Settled`] promises more than that nothing is there: *no earlier call of this id that is still
    /// under way can take effect later* (a tombstone, the order of one connection, the end of a session). A backend
    /// that cannot promise it answers [`Abandoned::Unsettled`], and is asked again until the ttl is over.
    fn abandon<'a>(&'a self, request: &'a AbandonRequest) -> BackendFuture<'a, Abandoned>;

    /// Who holds a key and how many wait, as the backend knows it. Reads only.
    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection>;

    /// Is `token` at least the highest that was ever presented here for `key`? Remembers the highest, in one atomic
    /// step, shared by all sidecars of the scope.
    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict>;

    /// Looks at the server and its set-up: answers with what is unsafe there, or with the error that keeps it from
    /// being reached. Called at start, after a reconnect and now and then. While a fatal finding stands, `acquire`
    /// fails with [`Category::Unsafe`].
    fn check(&self) -> BackendFuture<'_, Vec<Finding>>;

    /// Runs what the backend needs beside its calls (subscriptions, keepalives, reconnects) and tells `events`. Ends
    /// only when it is dropped, which is safe at any time. Without it running, waiters depend on the slow poll alone.
    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What a backend is and can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name in policies, metrics and documents: `redis`, `redlock`, `postgres`, …
    pub name: &'static str,
    /// What it promises.
    pub class: Class,
    /// Whether it keeps a queue across sidecars, which [`Order::Fifo`] needs.
    pub is_queued: bool,
    /// The shortest ttl it can keep.
    pub min_ttl: Ttl,
    /// Whether a hold may be kept after its last lease (a hold in a session of its own costs nothing to keep; a
    /// server that counts held objects may say no).
    pub can_retain: bool,
}

/// What a backend promises about exclusion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// At most one believer, whatever fails.
    Safe,
    /// At most one believer unless the server forgets or time jumps; safe with fencing at the resource.
    BestEffort,
    /// One sidecar alone.
    Local,
}

/// Asks for a hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcquireRequest {
    /// What is to be locked.
    pub key: Key,
    /// The attempt.
    pub hold: HoldId,
    /// Exclusive or shared.
    pub mode: Mode,
    /// How long the server keeps the hold without renewal.
    pub ttl: Ttl,
    /// Whether places in the queue are respected.
    pub order: Order,
    /// The place to take when the key is not free; nothing if the attempt does not wait.
    pub place: Option<Place>,
    /// How long a key stays quiet after a holder was lost (its hold ended by expiry or a broken session, not by
    /// release), counted from its expiry, or from when its end was first seen where the server cannot tell.
    pub lock_delay: Duration,
    /// Who asks, for others to read.
    pub owner: Owner,
}

/// A place in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// How long the caller has been waiting already. The queue is ordered by the server's clock less this age, so
    /// that a place that is asked for late stands where its caller came. A backend whose queue cannot be dated back
    /// takes the order of the requests, and says so in `docs/backends.md`.
    pub age: Duration,
    /// How long the place lives without being asked for again: a dead sidecar's place must not block the queue.
    pub keep: Duration,
}

/// The answer to an acquire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// The hold is this attempt's, for the request's ttl from the instant before the request.
    Granted(Granted),
    /// Another stands in the way.
    Busy(Busy),
}

/// A hold that was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// Its token.
    pub token: BackendToken,
    /// The session it lives in, where the backend has sessions; otherwise 0. See [`BackendEvent::SessionLost`].
    pub session: u64,
    /// The oldest other waiter that this hold stands in the way of.
    pub wanted: Option<Wanted>,
}

/// The key is not free.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Busy {
    /// Who holds it, if anyone does: it may be free and reserved for the head of the queue, or in its quiet time.
    pub holder: Option<Holder>,
    /// How many places are ahead, if the backend knows.
    pub ahead: Option<u32>,
    /// When asking again makes sense at the latest (the holder's ttl, the end of the quiet time), if known.
    pub retry_in: Option<Duration>,
}

/// A holder as others see it. Its times are the server's and good for display and retry hints only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its display name.
    pub owner: Owner,
    /// Its mode.
    pub mode: Mode,
    /// Its token, if the backend shows it.
    pub token: Option<BackendToken>,
    /// How long it has held, by the server's clock.
    pub held_for: Option<Duration>,
    /// When its hold ends if it is not renewed.
    pub expires_in: Option<Duration>,
}

/// Another sidecar wants the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// In which mode.
    pub mode: Mode,
    /// How long it has been waiting.
    pub age: Duration,
}

/// Extends a hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenewRequest {
    /// What is locked.
    pub key: Key,
    /// The hold.
    pub hold: HoldId,
    /// Its mode.
    pub mode: Mode,
    /// Its token.
    pub token: BackendToken,
    /// The new ttl, from now.
    pub ttl: Ttl,
    /// Who holds it now, for others to read.
    pub owner: Owner,
}

/// The answer to a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewed {
    /// Extended by the request's ttl from the instant before the request.
    Extended {
        /// The oldest other waiter that this hold stands in the way of.
        wanted: Option<Wanted>,
    },
    /// The hold is not this id's (any more).
    NotOwner,
}

/// Lets a hold go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleaseRequest {
    /// What is locked.
    pub key: Key,
    /// The hold.
    pub hold: HoldId,
    /// Its mode.
    pub mode: Mode,
    /// Its token.
    pub token: BackendToken,
    /// An attempt to make in the same step, after the release: the next local waiter that may not pass a remote one.
    pub next: Option<AcquireRequest>,
}

/// The answer to a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// Whether the hold was still this id's.
    pub was_owner: bool,
    /// The answer to [`ReleaseRequest::next`]; there exactly if that was.
    pub next: Option<Acquired>,
}

/// Makes an attempt go away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AbandonRequest {
    /// What was to be locked.
    pub key: Key,
    /// The attempt.
    pub hold: HoldId,
    /// Its mode.
    pub mode: Mode,
    /// The ttl it asked for: nothing of the attempt outlives it.
    pub ttl: Ttl,
}

/// The answer to an abandonment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abandoned {
    /// Neither hold nor place is there, and none can come.
    Settled,
    /// Neither is there now, but a call that is still under way may yet take effect.
    Unsettled,
}

/// What the backend knows of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inspection {
    /// Its holders: none, one, or several in shared mode.
    pub holders: Vec<Holder>,
    /// How many sidecars wait.
    pub waiters: u32,
}

/// The answer of a fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FenceVerdict {
    /// No larger token was seen here; it is remembered.
    Newest,
    /// A larger one was seen.
    Stale {
        /// The largest.
        highest: FencingToken,
    },
}

/// Something about the server or its set-up that its users must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is: a condition's reason in `CamelCase`, such as `EvictionUnsafe`.
    pub reason: &'static str,
    /// Whether no lock is given while it stands.
    pub is_fatal: bool,
    /// What was found and the remedy, in a sentence. No secret.
    pub message: String,
}

/// What a backend tells without being asked. Hints may be lost, late or spurious; only the slow poll is relied on.
/// [`BackendEvent::SessionLost`] alone is a fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackendEvent {
    /// Another sidecar waits for a key that this one holds.
    Wanted {
        /// The key.
        key: Key,
        /// The waiter.
        wanted: Wanted,
    },
    /// A key for which this sidecar has a place may be free now: ask again.
    Turn {
        /// The key.
        key: Key,
    },
    /// Hints may have been lost (a subscription was broken and stands again): every slot asks again.
    Resync,
    /// A session ended, and with it every hold that was granted in it.
    SessionLost {
        /// [`Granted::session`].
        session: u64,
    },
}

/// Where a backend tells its events.
pub trait Events: Send + Sync + 'static {
    /// Takes an event. Never blocks; at its bound it may drop hints in favour of one [`BackendEvent::Resync`], but no
    /// [`BackendEvent::SessionLost`].
    fn tell(&self, event: BackendEvent);
}
