//! What servers run out of, refuse and forget, and calls that nobody waits for.

use std::time::Duration;

use pawl_e2e::server::postgres::{PostgresOptions, PostgresServer};
use pawl_lock::{
    Backend,
    backend::{Abandoned, AcquireRequest, Acquired, Category, Outcome, Renewed},
    lease::Mode,
};
use pawl_sidecar::backend::postgres::{Postgres, PostgresMode};
use tokio::time::{Instant, sleep, timeout};

use crate::helpers::*;

/// P7: no connection is left. Who holds goes on; who comes is told why, and is served when there is one again.
#[tokio::test]
async fn used_up_connections_do_not_touch_holds() {
    let server = PostgresServer::start(PostgresOptions {
        max_connections: 8,
        ..PostgresOptions::default()
    });
    // Others do not connect as the superuser, for whom some are kept.
    server.sql("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE postgres TO app");
    let as_app = || as_user(at(&server.url(), PostgresMode::Advisory), "app", "");
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

/// P7: the server crashes in the instant after a grant. A session's holds are gone with it; rows are there.
#[tokio::test]
async fn a_crash_ends_sessions_and_keeps_rows() {
    for mode in MODES {
        // The server's own setting would forget: the backend must ask for more.
        let server = PostgresServer::start(PostgresOptions {
            settings: vec![
                ("synchronous_commit", "off".to_owned()),
                ("wal_writer_delay", "10000ms".to_owned()),
            ],
            ..PostgresOptions::default()
        });
        let a = Sidecar::at(&server, mode);
        let mut last = None;
        for round in 0..3 {
            let request = attempt("k");
            let granted = a.take(&request).await;
            assert!(
                Some(granted.token) > last,
                "{mode:?}: {} after {last:?}",
                granted.token
            );
            last = Some(granted.token);
            server.crash();
            let error = a.backend.acquire(&attempt("down")).await;
            let error = error.expect_err("it is down");
            assert_eq!(error.category(), Category::Connection, "{error}");
            server.launch();
            let renewed = a.renew(&request, granted).await;
            if mode == PostgresMode::Row {
                let extended = Renewed::Extended { wanted: None };
                assert_eq!(renewed, extended, "in round {round}");
                assert!(a.is_busy(&attempt("k")).await);
                let released = a.backend.release(&release(&request, granted)).await;
                assert!(released.expect("it is answered").was_owner);
            } else {
                assert_eq!(renewed, Renewed::NotOwner);
                assert!(a.has_lost_a_session());
            }
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
    let granted = "SELECT count(*) FROM pawl.keys WHERE key = 'k' AND token > 0";
    while server.sql(granted) != ["1"] {
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

/// An attempt that was given up is refused whenever a call of it arrives, also over another connection.
#[tokio::test]
async fn an_abandoned_attempt_is_never_granted() {
    let server = PostgresServer::start(PostgresOptions::default());
    for mode in MODES {
        let [a, b] = [(); 2].map(|()| Sidecar::at(&server, mode));
        let request = attempt("k");
        let abandoned = a.backend.abandon(&abandonment(&request)).await;
        assert_eq!(abandoned.expect("it is answered"), Abandoned::Settled);
        for sidecar in [&a, &b] {
            let late = sidecar.backend.acquire(&request).await;
            let error = late.expect_err("it was given up");
            assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        }
        let granted = b.take(&attempt("k")).await;
        assert!(granted.token.get() > 0);
        b.backend
            .abandon(&abandonment(&attempt("k")))
            .await
            .expect("it is answered");
        server.sql("DELETE FROM pawl.holds");
    }
}

/// A call that the server rolls back after it took the session's lock leaves neither lock nor doubt, whether its
/// answer was heard or not.
#[tokio::test]
async fn a_call_that_fails_halfway_leaves_no_lock() {
    let server = PostgresServer::start(PostgresOptions::default());
    let a = Sidecar::at(&server, PostgresMode::Advisory);
    a.take(&attempt("other")).await;
    server.sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'query_canceled'; END $$",
    );
    let fail =
        "CREATE TRIGGER fail BEFORE INSERT ON pawl.holds FOR EACH ROW EXECUTE FUNCTION fail()";
    server.sql(fail);
    for mode in [Mode::Exclusive, Mode::Shared] {
        let request = AcquireRequest {
            mode,
            ..attempt("heard")
        };
        let error = a.backend.acquire(&request).await.expect_err("it fails");
        assert_eq!(
            (error.category(), error.outcome()),
            (Category::Unavailable, Outcome::NotApplied),
            "{error}"
        );
        assert_eq!(locks(&server), 1, "{mode}: a lock was left");
    }
    let unheard = attempt("unheard");
    drop(futures::poll!(a.backend.acquire(&unheard)));
    let start = Instant::now();
    while locks(&server) != 2 {
        assert!(
            start.elapsed() < PATIENCE,
            "nothing was left: nothing is tried"
        );
        sleep(Duration::from_millis(1)).await;
    }
    server.sql("DROP TRIGGER fail ON pawl.holds");
    let next = attempt("unheard");
    let granted = a.take(&next).await;
    a.backend
        .release(&release(&next, granted))
        .await
        .expect("it is answered");
    assert_eq!(locks(&server), 1, "the lock was taken twice");
}
