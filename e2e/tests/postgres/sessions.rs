//! Faults of sidecars and their sessions: when a key must be lost, and when it is free again.

use std::{sync::Arc, time::Duration};

use pawl_e2e::server::{
    postgres::{PostgresOptions, PostgresServer, boot_clock},
    wire::Wire,
};
use pawl_lock::{
    Backend,
    backend::{AcquireRequest, BackendEvent, Renewed},
};
use pawl_sidecar::backend::postgres::PostgresMode;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::helpers::*;

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

/// Law 1 where the server ends the session of a sidecar that lives: nobody has the key before the holder could hear that
/// it is lost.
#[tokio::test]
async fn a_terminated_session_is_told_before_the_next_one_holds() {
    let server = PostgresServer::start(PostgresOptions::default());
    let [a, b] = [(); 2].map(|()| Sidecar::at(&server, PostgresMode::Advisory));
    let request = attempt("k");
    let granted = a.take(&request).await;
    assert!(b.is_busy(&attempt("k")).await);
    server.sql(
        "SELECT pg_terminate_backend(s.pid) FROM pawl.holds h JOIN pawl.sessions s ON s.id = h.session",
    );
    let ended = Instant::now();
    let lost = BackendEvent::SessionLost {
        session: granted.session,
    };
    let told = async {
        a.hears(|event| *event == lost).await;
        ended.elapsed()
    };
    let taken = async {
        let next = b.take(&attempt("k")).await;
        assert!(next.token > granted.token);
        ended.elapsed()
    };
    let (told, taken) = tokio::join!(told, taken);
    assert!(told < taken, "told after {told:?}, taken after {taken:?}");
    let notice = Duration::from_millis(90);
    assert!(taken > notice, "taken after {taken:?}");
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
    let a = Sidecar::with(at(&url, PostgresMode::Advisory));
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
