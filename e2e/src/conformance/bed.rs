//! What a case works with: a server, sidecars on it, attempts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use pawl_lock::{
    Backend, BackendToken, HoldId, Key, Namespace, Owner, PolicyName, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, Busy, Events, Granted,
        Inspection, Place, Profile, ReleaseRequest, Released, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
    name::HoldIds,
};
use pawl_sidecar::backend::Scope;
use tokio::{sync::Notify, task::JoinSet};

use super::{Server, Traits};

/// A ttl that a case waits out.
pub(crate) const SHORT: Duration = Duration::from_millis(700);
/// A ttl that never ends within a case.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a place lives where its end does not matter.
const KEEP: Duration = Duration::from_mins(1);

/// A case's place on a server: a scope that no other case uses.
pub struct Bed {
    server: Arc<dyn Server>,
    scope: Scope,
    ids: Mutex<HoldIds>,
    keys: AtomicU32,
}

/// A sidecar as far as a backend sees it: its backend, running, and what it was told.
pub struct Sidecar {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    events: Arc<Recorder>,
    /// Runs [`Backend::run`]; ends with the sidecar.
    _run: JoinSet<()>,
}

#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<BackendEvent>>,
    came: Notify,
}

impl Bed {
    pub(super) fn new(server: Arc<dyn Server>) -> Self {
        let unique: u64 = rand::random();
        let namespace = Namespace::try_new(&format!("case-{unique:x}")).expect("it is a label");
        let policy = PolicyName::try_new("conformance").expect("it is a name");
        Self {
            server,
            scope: Scope::of(&namespace, &policy),
            ids: Mutex::new(HoldIds::new(unique, 0)),
            keys: AtomicU32::new(0),
        }
    }

    /// The server.
    pub fn server(&self) -> &dyn Server {
        &*self.server
    }

    /// What the case needs to know of it.
    pub fn traits(&self) -> Traits {
        self.server.traits()
    }

    /// A new sidecar in the case's scope.
    pub async fn sidecar(&self) -> Sidecar {
        self.sidecar_in(&self.scope).await
    }

    /// A new sidecar in another scope.
    pub async fn sidecar_in(&self, scope: &Scope) -> Sidecar {
        let backend = self.server.connect(scope).await;
        let events = Arc::new(Recorder::default());
        let mut run = JoinSet::new();
        run.spawn(Arc::clone(&backend).run(Arc::clone(&events) as Arc<dyn Events>));
        Sidecar {
            backend,
            events,
            _run: run,
        }
    }

    /// New sidecars in the case's scope.
    pub async fn sidecars<const N: usize>(&self) -> [Sidecar; N] {
        let mut sidecars = Vec::new();
        for _ in 0..N {
            sidecars.push(self.sidecar().await);
        }
        sidecars
            .try_into()
            .unwrap_or_else(|_| unreachable!("there are N"))
    }

    /// New sidecars that hints reach already: each was told a turn.
    pub async fn hearing_sidecars<const N: usize>(&self) -> [Sidecar; N] {
        let sidecars = self.sidecars::<N>().await;
        let other = self.sidecar().await;
        for sidecar in &sidecars {
            self.until_it_hears(sidecar, &other).await;
        }
        sidecars
    }

    /// Makes `sidecar` wait for `other` until it is told its turn.
    pub async fn until_it_hears(&self, sidecar: &Sidecar, other: &Sidecar) {
        let start = tokio::time::Instant::now();
        loop {
            let key = self.key();
            let held = self.attempt(&key, &other.profile());
            let token = other.take(&held).await.token;
            let waiting = AcquireRequest {
                place: waits(Duration::ZERO),
                ..self.attempt(&key, &sidecar.profile())
            };
            sidecar.refused(&waiting).await;
            other.release(&held, token).await;
            let is_told = sidecar
                .hears(Duration::from_millis(200), |event| is_turn(event, &key))
                .await;
            sidecar.abandon(&waiting).await;
            if is_told {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "no hint ever came");
        }
    }

    /// The case's scope.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A key that nobody used.
    pub fn key(&self) -> Key {
        let n = self.keys.fetch_add(1, Ordering::Relaxed);
        Key::try_new(&format!("key/{n}")).expect("it is a key")
    }

    /// An id that nobody used.
    pub fn id(&self) -> HoldId {
        self.ids
            .lock()
            .unwrap_or_else(|e| unreachable!("{e}"))
            .next_id()
    }

    /// An attempt that does not wait: exclusive, with a ttl that does not end, in the strictest order there is.
    pub fn attempt(&self, key: &Key, profile: &Profile) -> AcquireRequest {
        AcquireRequest {
            key: key.clone(),
            hold: self.id(),
            mode: Mode::Exclusive,
            ttl: ttl(LONG),
            order: if profile.is_queued {
                Order::Fifo
            } else {
                Order::Any
            },
            place: None,
            lock_delay: Duration::ZERO,
            owner: owner("somebody"),
        }
    }
}

impl Sidecar {
    /// Waits until the server is reached again after its connections were cut: a backend of several nodes may hear of the
    /// first before it has a majority.
    pub async fn until_it_answers(&self) {
        let start = tokio::time::Instant::now();
        while let Err(error) = self.backend.check().await {
            assert!(
                start.elapsed() < PATIENCE,
                "it is not reached again: {error}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its backend is.
    pub fn profile(&self) -> Profile {
        self.backend.profile()
    }

    /// Asks, and expects an answer.
    pub async fn acquire(&self, request: &AcquireRequest) -> Acquired {
        answer("acquire", self.backend.acquire(request)).await
    }

    /// Asks, and expects a grant.
    pub async fn take(&self, request: &AcquireRequest) -> Granted {
        match self.acquire(request).await {
            Acquired::Granted(granted) => granted,
            Acquired::Busy(busy) => panic!("{} is not granted: {busy:?}", request.key),
        }
    }

    /// Asks, and expects none.
    pub async fn refused(&self, request: &AcquireRequest) -> Busy {
        match self.acquire(request).await {
            Acquired::Busy(busy) => busy,
            Acquired::Granted(granted) => panic!("{} is granted: {granted:?}", request.key),
        }
    }

    /// Asks until it is granted.
    pub async fn take_in_the_end(&self, request: &AcquireRequest, within: Duration) -> Granted {
        let start = tokio::time::Instant::now();
        loop {
            match self.acquire(request).await {
                Acquired::Granted(granted) => return granted,
                Acquired::Busy(busy) => {
                    assert!(start.elapsed() < within, "still busy: {busy:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Renews what `request` was granted.
    pub async fn renew(&self, request: &AcquireRequest, token: BackendToken) -> Renewed {
        answer("renew", self.backend.renew(&renewal(request, token))).await
    }

    /// Lets go what `request` was granted, and expects that it was still its own.
    pub async fn release(&self, request: &AcquireRequest, token: BackendToken) {
        let released = self.let_go(request, token, None).await;
        assert!(
            released.was_owner,
            "{} was not its own any more",
            request.key
        );
    }

    /// Lets go, with a next attempt.
    pub async fn let_go(
        &self,
        request: &AcquireRequest,
        token: BackendToken,
        next: Option<AcquireRequest>,
    ) -> Released {
        let release = ReleaseRequest {
            key: request.key.clone(),
            hold: request.hold,
            mode: request.mode,
            token,
            next,
        };
        let released = answer("release", self.backend.release(&release)).await;
        assert_eq!(released.next.is_some(), release.next.is_some());
        released
    }

    /// Abandons until that is settled, at most the attempt's ttl and some time.
    pub async fn abandon(&self, request: &AcquireRequest) {
        let abandon = AbandonRequest {
            key: request.key.clone(),
            hold: request.hold,
            mode: request.mode,
            ttl: request.ttl,
        };
        let start = tokio::time::Instant::now();
        let most = request.ttl.as_duration() + PATIENCE;
        while answer("abandon", self.backend.abandon(&abandon)).await == Abandoned::Unsettled {
            assert!(start.elapsed() < most, "an abandonment is never settled");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Who holds the key.
    pub async fn inspect(&self, key: &Key) -> Inspection {
        answer("inspect", self.backend.inspect(key)).await
    }

    /// Whether an event comes (or came since [`Sidecar::forget`]) within the time.
    pub async fn hears(&self, within: Duration, is_it: impl Fn(&BackendEvent) -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let came = self.events.came.notified();
            if self.events.lock().iter().any(&is_it) {
                return true;
            }
            if tokio::time::timeout_at(deadline, came).await.is_err() {
                return self.events.lock().iter().any(&is_it);
            }
        }
    }

    /// Forgets what it was told so far.
    pub fn forget(&self) {
        self.events.lock().clear();
    }
}

impl Recorder {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BackendEvent>> {
        self.events
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Events for Recorder {
    fn tell(&self, event: BackendEvent) {
        self.lock().push(event);
        self.came.notify_waiters();
    }
}

/// An answer that must come and be none of the errors.
async fn answer<T>(call: &str, future: pawl_lock::backend::BackendFuture<'_, T>) -> T {
    let answered = tokio::time::timeout(PATIENCE, future).await;
    answered
        .unwrap_or_else(|_| panic!("{call} was not answered"))
        .unwrap_or_else(|error| panic!("{call} failed: {error} ({error:?})"))
}

/// The renewal of what `request` was granted.
pub(crate) fn renewal(request: &AcquireRequest, token: BackendToken) -> RenewRequest {
    RenewRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token,
        ttl: request.ttl,
        owner: request.owner.clone(),
    }
}

/// A ttl.
pub(crate) fn ttl(ttl: Duration) -> Ttl {
    Ttl::try_new(ttl).expect("cases use possible ttls")
}

/// An owner.
pub(crate) fn owner(name: &str) -> Owner {
    Owner::try_new(name).expect("cases use possible owners")
}

/// A place whose caller has been waiting for `age`.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is written where an optional place stands"
)]
pub(crate) fn waits(age: Duration) -> Option<Place> {
    Some(Place { age, keep: KEEP })
}

/// Whether it is the turn of a waiter for `key`.
pub(crate) fn is_turn(event: &BackendEvent, key: &Key) -> bool {
    matches!(event, BackendEvent::Turn { key: turn } if turn == key)
}

/// Says that a case does not apply, and why.
pub(crate) fn does_not_apply(why: &str) {
    eprintln!("does not apply: {why}");
}
