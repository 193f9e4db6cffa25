//! What the tests have in common: backends that run, attempts, a process that holds.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pawl_e2e::server::{
    Program,
    holder::Holder,
    postgres::{PostgresServer, config},
    wire::Wire,
};
use pawl_lock::{
    Backend, BackendError, HoldId, Key, Owner, Ttl,
    backend::{
        AbandonRequest, AcquireRequest, Acquired, BackendEvent, Category, Events, Granted, Outcome,
        Place, ReleaseRequest, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    postgres::{Credentials, Postgres, PostgresConfig, PostgresMode},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const MODES: [PostgresMode; 2] = [PostgresMode::Advisory, PostgresMode::Row];
const SCOPE: &str = "test";

/// A backend that runs, and what it was told.
pub(crate) struct Sidecar {
    pub(crate) backend: Arc<Postgres>,
    told: Arc<Told>,
    _run: JoinSet<()>,
}

#[derive(Default)]
struct Told(Mutex<Vec<BackendEvent>>);

impl Events for Told {
    fn tell(&self, event: BackendEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Sidecar {
    pub(crate) fn at(server: &PostgresServer, mode: PostgresMode) -> Self {
        Self::with(config(&server.url(), mode, &scope()))
    }

    pub(crate) fn with(config: PostgresConfig) -> Self {
        let backend = Arc::new(Postgres::new(config));
        let told = Arc::new(Told::default());
        let mut run = JoinSet::new();
        run.spawn(backend.clone().run(told.clone()));
        Self {
            backend,
            told,
            _run: run,
        }
    }

    pub(crate) async fn take(&self, request: &AcquireRequest) -> Granted {
        let start = Instant::now();
        loop {
            match timeout(PATIENCE, self.backend.acquire(request)).await {
                Ok(Ok(Acquired::Granted(granted))) => return granted,
                other => assert!(start.elapsed() < PATIENCE, "not granted: {other:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn is_busy(&self, request: &AcquireRequest) -> bool {
        matches!(self.backend.acquire(request).await, Ok(Acquired::Busy(_)))
    }

    /// Asks until it is answered: the connection may have to be made again.
    pub(crate) async fn renew(&self, request: &AcquireRequest, granted: Granted) -> Renewed {
        let start = Instant::now();
        loop {
            match self.backend.renew(&renewal(request, granted)).await {
                Ok(renewed) => return renewed,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn hears(&self, is_it: impl Fn(&BackendEvent) -> bool) {
        let start = Instant::now();
        while !self.told.0.lock().unwrap().iter().any(&is_it) {
            assert!(start.elapsed() < PATIENCE, "it was not told");
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn has_lost_a_session(&self) -> bool {
        let told = self.told.0.lock().unwrap();
        told.iter()
            .any(|event| matches!(event, BackendEvent::SessionLost { .. }))
    }
}

pub(crate) fn scope() -> Scope {
    Scope::with_prefix(SCOPE).unwrap()
}

/// A configuration as the superuser.
pub(crate) fn at(url: &str, mode: PostgresMode) -> PostgresConfig {
    config(url, mode, &scope())
}

pub(crate) fn as_user(
    mut config: PostgresConfig,
    user: &'static str,
    password: &'static str,
) -> PostgresConfig {
    config.credentials = Arc::new(move || {
        Ok(Credentials {
            username: Some(user.to_owned()),
            password: Some(password.to_owned()),
        })
    });
    config
}

pub(crate) fn key(name: &str) -> Key {
    Key::try_new(name).unwrap()
}

pub(crate) fn ttl(ttl: Duration) -> Ttl {
    Ttl::try_new(ttl).unwrap()
}

/// An attempt that does not wait, with a ttl that does not end within a test.
pub(crate) fn attempt(name: &str) -> AcquireRequest {
    AcquireRequest {
        key: key(name),
        hold: HoldId::from_bits(rand::random()),
        mode: Mode::Exclusive,
        ttl: ttl(Duration::from_secs(60)),
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("somebody").unwrap(),
    }
}

pub(crate) fn waiting(name: &str) -> AcquireRequest {
    AcquireRequest {
        place: Some(Place {
            age: Duration::ZERO,
            keep: Duration::from_secs(60),
        }),
        ..attempt(name)
    }
}

pub(crate) fn renewal(request: &AcquireRequest, granted: Granted) -> RenewRequest {
    RenewRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        ttl: request.ttl,
        owner: request.owner.clone(),
    }
}

pub(crate) fn release(request: &AcquireRequest, granted: Granted) -> ReleaseRequest {
    ReleaseRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        next: None,
    }
}

pub(crate) fn abandonment(request: &AcquireRequest) -> AbandonRequest {
    AbandonRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        ttl: request.ttl,
    }
}

pub(crate) const HOLDER: &str = env!("CARGO_BIN_EXE_postgres-holder");

pub(crate) fn holder(server: &PostgresServer, mode: &str, name: &str, ttl: Duration) -> Holder {
    let program = Program {
        name: HOLDER,
        package: "cargo",
    };
    let ttl = ttl.as_millis().to_string();
    Holder::start(program, [&*server.url(), mode, SCOPE, name, &ttl])
}

/// A holder at the other end of a wire.
pub(crate) fn far_holder(
    wire: &Wire,
    server: &PostgresServer,
    name: &str,
    ttl: Duration,
) -> Holder {
    let program = Program {
        name: "ip",
        package: "iproute2",
    };
    let (url, ttl) = (server.url(), ttl.as_millis().to_string());
    let arguments = [&*url, "Advisory", SCOPE, name, &ttl];
    Holder::start(program, wire.far(HOLDER).into_iter().chain(arguments))
}

/// The advisory locks that are held.
pub(crate) fn locks(server: &PostgresServer) -> usize {
    let count = server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted");
    count[0].parse().expect("it is a number")
}

pub(crate) async fn take(backend: &Postgres, request: &AcquireRequest) -> Granted {
    match backend.acquire(request).await {
        Ok(Acquired::Granted(granted)) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn let_go(backend: &Postgres, request: &AcquireRequest, granted: Granted) {
    let released = backend.release(&release(request, granted)).await;
    assert!(released.expect("it is answered").was_owner);
}

/// Takes, renews and releases a key, and sees it refused to another.
pub(crate) async fn works(config: PostgresConfig) {
    let [a, b] = [(); 2].map(|()| Postgres::new(config.clone()));
    let request = attempt("works");
    let granted = take(&a, &request).await;
    let busy = b.acquire(&attempt("works")).await;
    assert!(matches!(busy, Ok(Acquired::Busy(_))), "{busy:?}");
    assert_eq!(
        a.renew(&renewal(&request, granted)).await.unwrap(),
        Renewed::Extended { wanted: None }
    );
    let_go(&a, &request, granted).await;
    let next = attempt("works");
    let granted = take(&b, &next).await;
    let_go(&b, &next, granted).await;
}

/// The error of an acquire, which was not made.
pub(crate) async fn fails(config: PostgresConfig, category: Category) -> BackendError {
    let backend = Postgres::new(config);
    let error = backend
        .acquire(&attempt("k"))
        .await
        .expect_err("it cannot work");
    assert_eq!(
        (error.category(), error.outcome()),
        (category, Outcome::NotApplied),
        "{error}"
    );
    error
}
