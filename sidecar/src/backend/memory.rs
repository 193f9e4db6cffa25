//! The backend `memory`: a map in the process. For development, tests, and pods that lock against themselves.
//!
//! * **Exclusion** within one process: class [`Class::Local`].
//! * **Token** of a key: the last one and 1, never below the milliseconds since 1970 as they were when the store was
//!   made and as the boot clock counted on. They climb across a restart of the process unless the wall clock was set
//!   back in between.
//! * **Calls take effect when they are made**, not when their future is polled: none is ever under way, so an
//!   abandonment is always settled and needs no tombstone.
//! * **Expiry** is looked at when a key is touched; no task and no timer belongs to a key. A key that is free and whose
//!   last token the clock has passed is forgotten at the next sweep, which costs a constant time per new key.
//! * **Bounds:** keys are bounded by what the policy lets be held and waited for; fenced keys by
//!   [`MAX_FENCED_KEYS`], beyond which a new one is refused, since forgetting one would let a stale token pass.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pawl_lock::{
    Backend, BackendError, FencingToken, Instant, Key, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, BackendFuture, Category,
        Class, Events, FenceVerdict, Finding, Inspection, Outcome, Profile, ReleaseRequest,
        Released, RenewRequest, Renewed,
    },
};

use super::{
    Scope,
    ear::{Ear, Hearing},
};
use space::Space;

mod entry;
mod space;

/// How many keys of one scope can be fenced.
pub const MAX_FENCED_KEYS: usize = 100_000;

/// A clock for lock decisions: the time since boot.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What all `memory` backends of a process share.
pub struct MemoryStore {
    now: Now,
    /// Where the tokens' clock stands: at this instant it shows this many milliseconds since 1970.
    epoch: (Instant, u64),
    spaces: Mutex<HashMap<Scope, Arc<Mutex<Space>>>>,
}

/// One sidecar's end of a [`MemoryStore`], bound to a scope.
pub struct Memory {
    now: Now,
    space: Arc<Mutex<Space>>,
    ear: Arc<Ear>,
}

/// An event and who is told it, once the space is unlocked.
type Told = Vec<(Arc<Ear>, BackendEvent)>;

impl MemoryStore {
    /// An empty store. `unix_millis` is the wall clock's time now: tokens start there.
    pub fn new(now: Now, unix_millis: u64) -> Self {
        let epoch = (now(), unix_millis);
        Self {
            now,
            epoch,
            spaces: Mutex::default(),
        }
    }

    /// A backend on this store. All backends of one scope share its keys.
    pub fn connect(&self, scope: &Scope) -> Memory {
        let mut spaces = lock(&self.spaces);
        let space = spaces
            .entry(scope.clone())
            .or_insert_with(|| Arc::new(Mutex::new(Space::new(self.epoch))));
        Memory {
            now: Arc::clone(&self.now),
            space: Arc::clone(space),
            ear: Arc::default(),
        }
    }
}

impl Memory {
    /// Runs `act` on the space and tells what it wants told when the space is free again.
    fn with<T>(&self, act: impl FnOnce(&mut Space, Instant, &mut Told) -> T) -> T {
        let mut told = Told::new();
        let answer = act(&mut lock(&self.space), (self.now)(), &mut told);
        for (ear, event) in told {
            ear.tell(event);
        }
        answer
    }
}

/// A future that is ready: the call was made already.
fn done<'a, T: Send + 'a>(answer: Result<T, BackendError>) -> BackendFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl Backend for Memory {
    fn profile(&self) -> Profile {
        Profile {
            name: "memory",
            class: Class::Local,
            is_queued: true,
            min_ttl: Ttl::MIN,
            can_retain: true,
        }
    }

    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BackendFuture<'a, Acquired> {
        done(Ok(self.with(|space, now, told| {
            space.acquire(now, request, &self.ear, told)
        })))
    }

    fn renew<'a>(&'a self, request: &'a RenewRequest) -> BackendFuture<'a, Renewed> {
        done(Ok(self.with(|space, now, told| {
            space.renew(now, request, &self.ear, told)
        })))
    }

    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> BackendFuture<'a, Released> {
        done(Ok(self.with(|space, now, told| {
            space.release(now, request, &self.ear, told)
        })))
    }

    fn abandon<'a>(&'a self, request: &'a AbandonRequest) -> BackendFuture<'a, Abandoned> {
        self.with(|space, now, told| space.abandon(now, &request.key, request.hold, told));
        done(Ok(Abandoned::Settled))
    }

    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection> {
        done(Ok(self.with(|space, now, _| space.inspect(now, key))))
    }

    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict> {
        let verdict = self.with(|space, _, _| space.fence(key, token));
        done(verdict.ok_or_else(|| {
            BackendError::new(
                Category::Full,
                Outcome::NotApplied,
                "the memory backend fences no more keys",
            )
        }))
    }

    fn check(&self) -> BackendFuture<'_, Vec<Finding>> {
        done(Ok(Vec::new()))
    }

    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let hearing = Hearing::new(Arc::clone(&self.ear), events);
        Box::pin(async move {
            let _hearing = hearing;
            std::future::pending::<()>().await;
        })
    }
}

/// Locks; what a panicking thread left is whole, since no step of a space panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
