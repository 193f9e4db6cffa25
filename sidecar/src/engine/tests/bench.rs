//! What the tests of the engine stand on.

use std::{
    cell::Cell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use pawl_crds::Chosen;
use pawl_kit::{
    admin::{Readiness, StatusSource},
    clock::{Clock, ClockHand},
    drain::Drain,
};
use pawl_lock::{
    Backend, BackendError, FencingToken, Key, Owner,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendFuture, Category, Events,
        FenceVerdict, Finding, Inspection, Outcome, Profile, ReleaseRequest, Released,
        RenewRequest, Renewed,
    },
};
use prometheus::{Registry, TextEncoder};
use tokio::{sync::Notify, task::LocalSet};

use crate::{
    backend::memory::{Memory, MemoryStore},
    engine::{
        Applied, Ask, BackendConfig, Config, Engine, EngineError, EngineFailure, Granted, Limits,
        OpenError, Opener, Origin, Pending, Policy, PolicySelector, Settings,
    },
    metrics::{Metrics, Operation},
    policy,
};

/// How a call is answered.
#[derive(Clone, Debug, Default)]
pub(super) enum Answer {
    /// By the memory backend.
    #[default]
    Pass,
    /// Never, and without effect.
    Silence,
    /// By the memory backend, but not before the gate opens.
    Late(Arc<Gate>),
    /// It has its effect, and the answer is lost.
    Swallow,
    /// With an error, without effect.
    Fail(Category, Outcome),
}

/// Holds answers back until it is opened.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: std::sync::atomic::AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
        self.opened.notify_waiters();
    }

    async fn passed(&self) {
        while !self.open.load(Ordering::Relaxed) {
            self.opened.notified().await;
        }
    }
}

/// What the backend does; all sidecars of a bench have the same.
#[derive(Debug, Default)]
pub(super) struct Script {
    answers: Mutex<BTreeMap<&'static str, Answer>>,
    calls: [AtomicU64; Operation::ALL.len()],
}

impl Script {
    /// How calls of this kind are answered from now on.
    pub(super) fn set(&self, operation: Operation, answer: Answer) {
        self.answers
            .lock()
            .unwrap()
            .insert(operation.as_str(), answer);
    }

    /// The same for all kinds.
    pub(super) fn set_all(&self, answer: &Answer) {
        for operation in Operation::ALL {
            self.set(operation, answer.clone());
        }
    }

    /// How many calls of this kind there were.
    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.calls[operation as usize].load(Ordering::Relaxed)
    }

    fn play<'a, T: Send + 'a>(
        &self,
        operation: Operation,
        call: impl FnOnce() -> BackendFuture<'a, T> + Send + 'a,
    ) -> BackendFuture<'a, T> {
        self.calls[operation as usize].fetch_add(1, Ordering::Relaxed);
        let answer = self
            .answers
            .lock()
            .unwrap()
            .get(operation.as_str())
            .cloned();
        match answer.unwrap_or_default() {
            Answer::Pass => call(),
            Answer::Silence => Box::pin(std::future::pending()),
            Answer::Late(gate) => Box::pin(async move {
                gate.passed().await;
                call().await
            }),
            Answer::Swallow => Box::pin(async move {
                let _ = call().await;
                std::future::pending().await
            }),
            Answer::Fail(category, outcome) => {
                let error = BackendError::new(category, outcome, "scripted");
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }
}

struct Scripted {
    script: Arc<Script>,
    memory: Arc<Memory>,
}

impl Backend for Scripted {
    fn profile(&self) -> Profile {
        self.memory.profile()
    }
    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BackendFuture<'a, Acquired> {
        self.script
            .play(Operation::Acquire, || self.memory.acquire(request))
    }
    fn renew<'a>(&'a self, request: &'a RenewRequest) -> BackendFuture<'a, Renewed> {
        self.script
            .play(Operation::Renew, || self.memory.renew(request))
    }
    fn release<'a>(&'a self, request: &'a ReleaseRequest) -> BackendFuture<'a, Released> {
        self.script
            .play(Operation::Release, || self.memory.release(request))
    }
    fn abandon<'a>(&'a self, request: &'a AbandonRequest) -> BackendFuture<'a, Abandoned> {
        self.script
            .play(Operation::Abandon, || self.memory.abandon(request))
    }
    fn inspect<'a>(&'a self, key: &'a Key) -> BackendFuture<'a, Inspection> {
        self.script
            .play(Operation::Inspect, || self.memory.inspect(key))
    }
    fn fence<'a>(&'a self, key: &'a Key, token: FencingToken) -> BackendFuture<'a, FenceVerdict> {
        self.script
            .play(Operation::Fence, move || self.memory.fence(key, token))
    }
    fn check(&self) -> BackendFuture<'_, Vec<Finding>> {
        self.script.play(Operation::Check, || self.memory.check())
    }
    fn run(self: Arc<Self>, events: Arc<dyn Events>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Arc::clone(&self.memory).run(events)
    }
}

#[derive(Debug)]
struct TestOpener {
    store: Rc<Store>,
    script: Arc<Script>,
}

struct Store(MemoryStore);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Opener for TestOpener {
    fn open(&self, config: &BackendConfig) -> Result<Arc<dyn Backend>, OpenError> {
        match config.spec.chosen() {
            Some(Chosen::Memory(_)) => Ok(Arc::new(Scripted {
                script: Arc::clone(&self.script),
                memory: Arc::new(self.store.0.connect(&config.scope)),
            })),
            _ => Err(OpenError {
                reason: "BackendNotBuilt",
                message: "only memory here".to_owned(),
            }),
        }
    }
}

/// A sidecar's engine, and what a test needs to play with it. Clones are the same.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) script: Arc<Script>,
    pub(super) registry: Registry,
    pub(super) readiness: Readiness,
    pub(super) drain: Drain,
    hand: Rc<ClockHand>,
    store: Rc<Store>,
    grace: Rc<Cell<Duration>>,
}

/// A policy from its spec in YAML.
pub(super) fn settings(name: &str, spec: &str) -> Settings {
    let text = format!(
        "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {{name: {name}}}\nspec: {spec}"
    );
    policy::settings(&pawl_crds::parse(&text).unwrap(), Origin::default()).unwrap()
}

pub(super) fn key(text: &str) -> Key {
    Key::try_new(text).unwrap()
}

/// An ask that waits this long.
pub(super) fn wait(seconds: u64) -> Ask {
    Ask {
        wait: Some(Duration::from_secs(seconds)),
        ..Ask::default()
    }
}

/// Polls once; the answer if it is there.
pub(super) fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Lets every task go on until nothing more happens without the clock. All of them are on this thread and none does
/// any I/O, so a bounded number of turns is enough.
pub(super) async fn turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Runs a test on a bench whose engine runs beside it, with one policy `p`.
pub(super) fn on_bench<T: Future<Output = ()>>(spec: &str, test: impl FnOnce(Bench) -> T) {
    let bench = Bench::new(Limits::default());
    bench.apply(vec![settings("p", spec)]);
    bench.run(test);
}

impl Bench {
    pub(super) fn new(limits: Limits) -> Self {
        let (clock, hand) = Clock::manual();
        let now = clock.clone();
        let millis = 1_767_225_600_000;
        let store = Rc::new(Store(MemoryStore::new(Arc::new(move || now.now()), millis)));
        Self::with(limits, clock, Rc::new(hand), store)
    }

    /// Another sidecar on the same store and clock.
    pub(super) fn another(&self) -> Self {
        let clock = self.engine.clock().clone();
        Self::with(
            Limits::default(),
            clock,
            Rc::clone(&self.hand),
            Rc::clone(&self.store),
        )
    }

    fn with(limits: Limits, clock: Clock, hand: Rc<ClockHand>, store: Rc<Store>) -> Self {
        let (script, registry) = (Arc::new(Script::default()), Registry::new());
        let readiness = Readiness::new();
        let engine = Engine::new(Config {
            clock,
            identity: Owner::try_new("this-pod").unwrap(),
            limits,
            opener: Box::new(TestOpener {
                store: Rc::clone(&store),
                script: Arc::clone(&script),
            }),
            metrics: Metrics::register(&registry).unwrap(),
            readiness: readiness.clone(),
        });
        Self {
            engine,
            script,
            registry,
            readiness,
            drain: Drain::new(),
            hand,
            store,
            grace: Rc::default(),
        }
    }

    pub(super) fn run<T: Future<Output = ()>>(&self, test: impl FnOnce(Self) -> T) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(async {
            let engine = self.start();
            turns().await;
            test(self.clone()).await;
            engine.abort();
        }));
    }

    /// Starts the engine's task.
    pub(super) fn start(&self) -> tokio::task::JoinHandle<Result<(), EngineFailure>> {
        let (engine, drain, grace) = (self.engine.clone(), self.drain.signal(), self.grace.get());
        tokio::task::spawn_local(async move { engine.run(drain, grace).await })
    }

    /// How long leases live on in a drain; before the engine is started.
    pub(super) fn set_grace(&self, grace: Duration) {
        self.grace.set(grace);
    }

    pub(super) fn apply(&self, all: Vec<Settings>) -> Vec<Applied> {
        self.engine.apply(all).into_values().collect()
    }

    pub(super) fn policy(&self) -> Rc<Policy> {
        self.engine.policy(PolicySelector::Named("p")).unwrap()
    }

    pub(super) fn begin(&self, name: &str, ask: Ask) -> Result<Pending, EngineError> {
        self.engine.begin(&self.policy(), key(name), ask)
    }

    pub(super) fn begin_several(&self, names: &[&str], ask: Ask) -> Result<Pending, EngineError> {
        let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
        self.engine.begin(&self.policy(), keys, ask)
    }

    /// A lease that needs no waiting.
    pub(super) fn grant(&self, name: &str) -> Granted {
        self.try_now(name, Ask::default()).unwrap()
    }

    /// The answer to an ask that needs no waiting.
    pub(super) fn try_now(&self, name: &str, ask: Ask) -> Result<Granted, EngineError> {
        now(&mut self.begin(name, ask)?).expect("the answer is there at the first poll")
    }

    /// Moves the clock in steps that are small against every timer of a test, and lets tasks go on after each.
    pub(super) async fn pass(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.hand.advance(step);
            left -= step;
            turns().await;
        }
    }

    pub(super) async fn pass_secs(&self, seconds: u64) {
        self.pass(Duration::from_secs(seconds)).await;
    }

    /// Moves the clock in one leap without letting any task go on, as a suspend does.
    pub(super) fn leap(&self, time: Duration) {
        self.hand.advance(time);
    }

    /// How many hold the key at the backend, whoever they are.
    pub(super) async fn holders(&self, name: &str) -> usize {
        let scope = settings("p", "{backend: {memory: {}}}").backend.scope;
        let inspection = self
            .store
            .0
            .connect(&scope)
            .inspect(&key(name))
            .await
            .unwrap();
        inspection.holders.len()
    }

    /// The lines of a metric.
    pub(super) fn metric(&self, name: &str) -> Vec<String> {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let of_it = |line: &&str| line.starts_with(name);
        text.lines().filter(of_it).map(str::to_owned).collect()
    }

    pub(super) fn status(&self) -> serde_json::Value {
        self.engine.status().status()
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.engine.state().slots.len()
    }
}
