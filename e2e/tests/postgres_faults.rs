//! Faults of sidecars, sessions and servers, on real Postgres servers: what must be lost, when it is free again, and
//! what must not be touched. The ids are those of the fault table of the tests.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pawl_e2e::server::{
    Program,
    holder::Holder,
    postgres::{PostgresOptions, PostgresServer, boot_clock, config},
    wire::Wire,
};
use pawl_lock::{
    Backend, HoldId, Key, Owner, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, Category, Events,
        Granted, Outcome, Place, ReleaseRequest, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    postgres::{Credentials, Postgres, PostgresConfig, PostgresMode},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(10);
const SCOPE: &str = "faults";

/// A backend that runs, and what it was told.
struct Sidecar {
    backend: Arc<Postgres>,
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
    fn at(server: &PostgresServer, mode: PostgresMode) -> Self {
        Self::with(config(&server.url(), mode, &scope()))
    }

    fn with(config: PostgresConfig) -> Self {
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

    async fn take(&self, request: &AcquireRequest) -> Granted {
        let start = Instant::now();
        loop {
            match timeout(PATIENCE, self.backend.acquire(request)).await {
                Ok(Ok(Acquired::Granted(granted))) => return granted,
                other => assert!(start.elapsed() < PATIENCE, "not granted: {other:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_busy(&self, request: &AcquireRequest) -> bool {
        matches!(self.backend.acquire(request).await, Ok(Acquired::Busy(_)))
    }

    /// Asks until it is answered: the connection may have to be made again.
    async fn renew(&self, request: &AcquireRequest, granted: Granted) -> Renewed {
        let start = Instant::now();
        loop {
            match self.backend.renew(&renewal(request, granted)).await {
                Ok(renewed) => return renewed,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn hears(&self, is_it: impl Fn(&BackendEvent) -> bool) {
        let start = Instant::now();
        while !self.told.0.lock().unwrap().iter().any(&is_it) {
            assert!(start.elapsed() < PATIENCE, "it was not told");
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn has_lost_a_session(&self) -> bool {
        let told = self.told.0.lock().unwrap();
        told.iter()
            .any(|event| matches!(event, BackendEvent::SessionLost { .. }))
    }
}

fn scope() -> Scope {
    Scope::with_prefix(SCOPE).unwrap()
}

fn key(name: &str) -> Key {
    Key::try_new(name).unwrap()
}

fn ttl(ttl: Duration) -> Ttl {
    Ttl::try_new(ttl).unwrap()
}

/// An attempt that does not wait, with a ttl that does not end within a test.
fn attempt(name: &str) -> AcquireRequest {
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

fn waiting(name: &str) -> AcquireRequest {
    AcquireRequest {
        place: Some(Place {
            age: Duration::ZERO,
            keep: Duration::from_secs(60),
        }),
        ..attempt(name)
    }
}

fn renewal(request: &AcquireRequest, granted: Granted) -> RenewRequest {
    RenewRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        ttl: request.ttl,
        owner: request.owner.clone(),
    }
}

fn release(request: &AcquireRequest, granted: Granted) -> ReleaseRequest {
    ReleaseRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        next: None,
    }
}

fn abandonment(request: &AcquireRequest) -> AbandonRequest {
    AbandonRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        ttl: request.ttl,
    }
}

const HOLDER: &str = env!("CARGO_BIN_EXE_postgres-holder");

fn holder(server: &PostgresServer, mode: &str, name: &str, ttl: Duration) -> Holder {
    let program = Program {
        name: HOLDER,
        package: "cargo",
    };
    let ttl = ttl.as_millis().to_string();
    Holder::start(program, [&*server.url(), mode, SCOPE, name, &ttl])
}

/// A holder at the other end of a wire.
fn far_holder(wire: &Wire, server: &PostgresServer, name: &str, ttl: Duration) -> Holder {
    let program = Program {
        name: "ip",
        package: "iproute2",
    };
    let (url, ttl) = (server.url(), ttl.as_millis().to_string());
    let arguments = [&*url, "Advisory", SCOPE, name, &ttl];
    Holder::start(program, wire.far(HOLDER).into_iter().chain(arguments))
}

/// The advisory locks that are held.
fn locks(server: &PostgresServer) -> usize {
    let count = server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted");
    count[0].parse().expect("it is a number")
}

/// P1: a sidecar that is killed leaves its key free within a second, and who waits for it is told.
#[tokio::test]
async fn a_killed_sidecar_frees_its_keys() {
    let server = PostgresServer::start(PostgresOptions::default());
    let holder = holder(&server, "Advisory", "k", Duration::from_secs(60));
    let waiter = Sidecar::at(&server, PostgresMode::Advisory);
    let request = waiting("k");
    assert!(waiter.is_busy(&request).await);
    holder.kill();
    let killed = Instant::now();
    waiter
        .hears(|event| matches!(event, BackendEvent::Turn { key } if *key == request.key))
        .await;
    let granted = waiter.take(&request).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert!(granted.token.get() > holder.belief().token);
}

/// S2 at this backend: a sidecar that is stopped beyond its ttl keeps its connection. Its lock is free soon after its
/// ttl, not before its deadline, and it learns of that before it believes again.
#[tokio::test]
async fn a_stopped_sidecar_loses_its_keys_after_its_ttl() {
    for mode in [PostgresMode::Advisory, PostgresMode::Row] {
        let server = PostgresServer::start(PostgresOptions::default());
        let ttl = Duration::from_secs(2);
        let holder = holder(&server, &format!("{mode:?}"), "k", ttl);
        let waiter = Sidecar::at(&server, mode);
        let request = waiting("k");
        holder.pause();
        // The belief that stands when it is stopped; what it said before is in the pipe.
        let belief = holder.belief();
        let granted = waiter.take(&request).await;
        let freed = boot_clock();
        assert!(
            freed > belief.deadline,
            "{mode:?}: it was freed before the deadline"
        );
        let late = freed.saturating_since(belief.deadline);
        assert!(
            late < Duration::from_secs(2),
            "{mode:?}: it was freed {late:?} after it"
        );
        assert!(granted.token.get() > belief.token);
        holder.resume();
        let (reason, _) = holder.lost();
        assert_eq!(reason, "expired", "{mode:?}");
        assert_eq!(holder.belief(), belief, "{mode:?}: it believed again");
        assert_eq!(
            waiter.renew(&request, granted).await,
            Renewed::Extended { wanted: None }
        );
    }
}

/// A sidecar that lives and only did not renew one key keeps its session, and all other keys in it.
#[tokio::test]
async fn a_lapsed_hold_does_not_cost_the_session() {
    let server = PostgresServer::start(PostgresOptions::default());
    let [a, b] = [(); 2].map(|()| Sidecar::at(&server, PostgresMode::Advisory));
    let (kept, lapsed) = (
        attempt("kept"),
        AcquireRequest {
            ttl: ttl(Duration::from_millis(500)),
            ..attempt("lapsed")
        },
    );
    let held = a.take(&kept).await;
    a.take(&lapsed).await;
    let taken = Instant::now();
    b.take(&waiting("lapsed")).await;
    assert!(
        taken.elapsed() < Duration::from_secs(2),
        "{:?}",
        taken.elapsed()
    );
    assert!(!a.has_lost_a_session());
    assert_eq!(
        a.renew(&kept, held).await,
        Renewed::Extended { wanted: None }
    );
    assert!(b.is_busy(&attempt("kept")).await);
}

/// P2: all packets between sidecar and server are dropped. The holder loses the key at its deadline; the server ends
/// the session by itself after that, and not much later than the ttl.
#[test]
fn a_silent_partition_frees_keys_after_the_deadline() {
    for seconds in [1, 2, 5] {
        partition(Duration::from_secs(seconds));
    }
}

fn partition(ttl: Duration) {
    let wire = Wire::lay();
    let server = PostgresServer::start(PostgresOptions {
        address: wire.near(),
        ..PostgresOptions::default()
    });
    let holder = far_holder(&wire, &server, "k", ttl);
    while holder.renewals() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(locks(&server), 1);
    wire.cut();
    // Nobody else asks for the key: what frees it is the server's keepalive alone.
    while locks(&server) == 1 {
        std::thread::sleep(Duration::from_millis(20));
        let late = boot_clock().saturating_since(holder.belief().deadline);
        assert!(
            late < Duration::from_secs(4),
            "ttl {ttl:?}: the server still keeps it"
        );
    }
    let freed = boot_clock();
    let deadline = holder.belief().deadline;
    assert!(freed > deadline, "ttl {ttl:?}: freed before the deadline");
    let (reason, lost) = holder.lost();
    let late = lost.saturating_since(deadline);
    assert!(
        late < Duration::from_millis(500),
        "ttl {ttl:?}: it learned {late:?} late"
    );
    assert!(
        reason == "expired" || lost < deadline,
        "ttl {ttl:?}: {reason}"
    );
    eprintln!(
        "ttl {ttl:?}: lost by {reason}, free {:?} after the deadline",
        freed.saturating_since(deadline)
    );
}

/// P3: the server ends the holder's session. That is told at once; the new session never says that it still holds.
#[tokio::test]
async fn a_terminated_session_is_told_and_never_held_again() {
    let server = PostgresServer::start(PostgresOptions::default());
    let a = Sidecar::at(&server, PostgresMode::Advisory);
    let request = attempt("k");
    let granted = a.take(&request).await;
    assert_ne!(granted.session, 0);
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pawl/%'",
    );
    let ended = Instant::now();
    let lost = BackendEvent::SessionLost {
        session: granted.session,
    };
    a.hears(|event| *event == lost).await;
    assert!(
        ended.elapsed() < Duration::from_secs(1),
        "{:?}",
        ended.elapsed()
    );
    let renewed = a.renew(&request, granted).await;
    assert_eq!(renewed, Renewed::NotOwner);
    let next = a.take(&attempt("k")).await;
    assert!(next.token > granted.token);
    assert!(next.session > granted.session);
}

/// P7: no connection is left. Who holds goes on; who comes is told why, and is served when there is one again.
#[tokio::test]
async fn used_up_connections_do_not_touch_holds() {
    let server = PostgresServer::start(PostgresOptions {
        max_connections: 8,
        ..PostgresOptions::default()
    });
    // Others do not connect as the superuser, for whom some are kept.
    server.sql("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE postgres TO app");
    let as_app = || {
        let mut config = config(&server.url(), PostgresMode::Advisory, &scope());
        config.credentials = Arc::new(|| {
            Ok(Credentials {
                username: Some("app".to_owned()),
                password: None,
            })
        });
        config
    };
    let a = Postgres::new(as_app());
    let request = attempt("k");
    let Ok(Acquired::Granted(granted)) = a.acquire(&request).await else {
        panic!("it is free");
    };
    let others: Vec<Postgres> = (0..7).map(|_| Postgres::new(as_app())).collect();
    let mut refused = None;
    for other in &others {
        if let Err(error) = other.acquire(&attempt("other")).await {
            refused = Some(error);
        }
    }
    let error = refused.expect("there are fewer connections than that");
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.to_string().contains("53300"), "{error}");
    let renewed = a
        .renew(&renewal(&request, granted))
        .await
        .expect("it has its own");
    assert_eq!(renewed, Renewed::Extended { wanted: None });
    let late = Postgres::new(as_app());
    drop(others);
    let start = Instant::now();
    while let Err(error) = late.acquire(&attempt("late")).await {
        assert!(start.elapsed() < PATIENCE, "it does not heal: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// P7: the server turns read-only and back. Nothing is granted, nothing is lost.
#[tokio::test]
async fn a_read_only_server_grants_nothing_and_loses_nothing() {
    for mode in [PostgresMode::Advisory, PostgresMode::Row] {
        let server = PostgresServer::start(PostgresOptions::default());
        let a = Sidecar::at(&server, mode);
        let request = attempt("k");
        let granted = a.take(&request).await;
        let read_only = |value| {
            server.sql(&format!(
                "ALTER SYSTEM SET default_transaction_read_only = {value}"
            ));
            server.sql("SELECT pg_reload_conf()");
        };
        read_only("on");
        let start = Instant::now();
        let error = loop {
            let next = attempt("other");
            match a.backend.acquire(&next).await {
                Err(error) => break error,
                Ok(Acquired::Granted(other)) => {
                    a.backend.release(&release(&next, other)).await.ok();
                }
                Ok(Acquired::Busy(_)) => {}
            }
            assert!(start.elapsed() < PATIENCE, "it did not turn read-only");
        };
        assert_eq!(
            (error.category(), error.outcome()),
            (Category::Unavailable, Outcome::NotApplied),
            "{mode:?}: {error}"
        );
        assert!(
            a.backend.renew(&renewal(&request, granted)).await.is_err(),
            "{mode:?}"
        );
        read_only("off");
        assert!(!a.has_lost_a_session(), "{mode:?}");
        assert_eq!(
            a.renew(&request, granted).await,
            Renewed::Extended { wanted: None }
        );
        assert!(a.is_busy(&attempt("k")).await, "{mode:?}");
    }
}

/// P7: the server's lock table is full. That is told as such, nothing is half taken, what is held stays held.
#[tokio::test]
async fn a_full_lock_table_is_told() {
    let server = PostgresServer::start(PostgresOptions {
        max_connections: 10,
        settings: vec![
            ("max_locks_per_transaction", "10".to_owned()),
            ("max_worker_processes", "0".to_owned()),
            ("autovacuum", "off".to_owned()),
        ],
        ..PostgresOptions::default()
    });
    let a = Sidecar::at(&server, PostgresMode::Advisory);
    let mut held = Vec::new();
    let error = loop {
        let request = attempt(&format!("k{}", held.len()));
        match a.backend.acquire(&request).await {
            Ok(Acquired::Granted(granted)) => held.push((request, granted)),
            Ok(busy) => panic!("{busy:?}"),
            Err(error) => break error,
        }
        assert!(held.len() < 20_000, "its lock table has no end");
    };
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Full, Outcome::NotApplied),
        "{error}"
    );
    let (request, granted) = held.pop().expect("some were granted");
    let last = held.last().expect("some were granted");
    assert_eq!(
        a.renew(&last.0, last.1).await,
        Renewed::Extended { wanted: None }
    );
    let released = a.backend.release(&release(&request, granted)).await;
    assert!(released.expect("a release needs no room").was_owner);
    assert!(!a.has_lost_a_session());
    a.take(&attempt("room-again")).await;
    for (request, granted) in held {
        let released = a.backend.release(&release(&request, granted)).await;
        assert!(released.expect("a release needs no room").was_owner);
    }
    assert_eq!(locks(&server), 1, "only room-again is held");
}

/// P7: the server crashes and comes back. A session's holds are gone with it; rows are there.
#[tokio::test]
async fn a_crash_ends_sessions_and_keeps_rows() {
    for mode in [PostgresMode::Advisory, PostgresMode::Row] {
        // The server's own setting would forget: the backend must ask for more.
        let server = PostgresServer::start(PostgresOptions {
            settings: vec![
                ("synchronous_commit", "off".to_owned()),
                ("wal_writer_delay", "10000ms".to_owned()),
            ],
            ..PostgresOptions::default()
        });
        let a = Sidecar::at(&server, mode);
        let request = attempt("k");
        let granted = a.take(&request).await;
        let mut last = granted.token;
        for _ in 0..50 {
            let next = attempt("fast");
            let granted = a.take(&next).await;
            last = granted.token;
            a.backend.release(&release(&next, granted)).await.unwrap();
        }
        server.crash();
        let error = a
            .backend
            .acquire(&attempt("down"))
            .await
            .expect_err("it is down");
        assert_eq!(error.category(), Category::Connection, "{error}");
        server.launch();
        let next = a.take(&attempt("fast")).await;
        assert!(next.token > last, "{mode:?}: {} after {last}", next.token);
        let renewed = a.renew(&request, granted).await;
        if mode == PostgresMode::Row {
            assert_eq!(renewed, Renewed::Extended { wanted: None });
            assert!(a.is_busy(&attempt("k")).await);
        } else {
            assert_eq!(renewed, Renewed::NotOwner);
            assert!(a.has_lost_a_session());
            a.take(&attempt("k")).await;
        }
    }
}

/// P9: callers that leave while they are queued, at any point of their call, leave nothing behind.
#[tokio::test]
async fn cancelled_waiters_leave_no_orphan() {
    let server = PostgresServer::start(PostgresOptions::default());
    let [a, b] = [(); 2].map(|()| Sidecar::at(&server, PostgresMode::Advisory));
    let held = attempt("k");
    let granted = a.take(&held).await;
    for round in 0..60 {
        let request = waiting(if round % 2 == 0 { "k" } else { "free" });
        let patience = Duration::from_micros(50 * round);
        drop(timeout(patience, b.backend.acquire(&request)).await);
        let abandoned = b.backend.abandon(&abandonment(&request)).await;
        assert_eq!(abandoned.expect("it is answered"), Abandoned::Settled);
    }
    assert_eq!(
        locks(&server),
        1,
        "{:?}",
        server.sql("SELECT * FROM pg_locks")
    );
    assert_eq!(server.sql("SELECT count(*) FROM pawl.places"), ["0"]);
    assert_eq!(server.sql("SELECT count(*) FROM pawl.holds"), ["1"]);
    a.backend.release(&release(&held, granted)).await.unwrap();
    b.take(&attempt("k")).await;
}

/// A call that nobody waits for and nobody abandons ends with its ttl: the session lets go of it by itself.
#[tokio::test]
async fn a_forgotten_call_ends_with_its_ttl() {
    let server = PostgresServer::start(PostgresOptions::default());
    let a = Sidecar::at(&server, PostgresMode::Advisory);
    a.take(&attempt("other")).await;
    let request = AcquireRequest {
        ttl: ttl(Duration::from_millis(400)),
        ..attempt("k")
    };
    // Polled once: it is sent, and its answer is not waited for.
    drop(futures::poll!(a.backend.acquire(&request)));
    let start = Instant::now();
    while locks(&server) < 2 {
        assert!(start.elapsed() < PATIENCE, "the call was not made");
        sleep(Duration::from_millis(1)).await;
    }
    while locks(&server) > 1 {
        assert!(start.elapsed() < PATIENCE, "the lock is never free");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!a.has_lost_a_session());
}

/// A call that the server comes to only after its ttl is refused: nobody believes in it any more, nobody may know it.
#[tokio::test]
async fn a_call_that_comes_late_is_not_granted() {
    for mode in [PostgresMode::Advisory, PostgresMode::Row] {
        let server = PostgresServer::start(PostgresOptions::default());
        let a = Sidecar::at(&server, mode);
        a.take(&attempt("other")).await;
        let request = AcquireRequest {
            ttl: ttl(Duration::from_millis(300)),
            ..attempt("k")
        };
        server.pause();
        let late = a.backend.acquire(&request);
        let wait = async {
            sleep(Duration::from_millis(600)).await;
            server.resume();
        };
        let (answer, ()) = tokio::join!(late, wait);
        let error = answer.expect_err("it came too late");
        assert_eq!(
            (error.category(), error.outcome()),
            (Category::Unavailable, Outcome::NotApplied),
            "{mode:?}: {error}"
        );
        a.take(&attempt("k")).await;
    }
}

/// The sidecar's end of a connection breaks and the server does not notice. The sidecar's next session ends the one
/// before it, so that its keys are free, and what it abandoned there is settled.
#[tokio::test]
async fn a_new_session_ends_the_one_before_it() {
    let server = PostgresServer::start(PostgresOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cut = Arc::new(Notify::new());
    let mut proxy = JoinSet::new();
    let (target, cutting) = (server.port(), cut.clone());
    proxy.spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            let is_cut = tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
                () = cutting.notified() => true,
            };
            if is_cut {
                // The server's end stays open, and nobody reads from it.
                silent.push(far);
            }
        }
    });
    let url = format!("postgres://127.0.0.1:{port}/postgres");
    let a = Sidecar::with(config(&url, PostgresMode::Advisory, &scope()));
    let request = attempt("k");
    let granted = a.take(&request).await;
    cut.notify_one();
    a.hears(|event| matches!(event, BackendEvent::SessionLost { .. }))
        .await;
    let start = Instant::now();
    while a.backend.abandon(&abandonment(&request)).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "it is never settled");
        sleep(Duration::from_millis(5)).await;
    }
    let b = Sidecar::at(&server, PostgresMode::Advisory);
    let next = b.take(&attempt("k")).await;
    assert!(next.token > granted.token);
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "it took {took:?} of a ttl of a minute"
    );
}
