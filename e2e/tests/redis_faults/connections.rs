//! Connections break, stall, are cut between effect and answer.

use std::{sync::Arc, time::Duration};

use pawl_e2e::server::proxy::{Fault, Proxy};
use pawl_lock::{
    Backend,
    backend::{Acquired, BackendEvent, Category, Events, Outcome, Renewed},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::bench::{
    PATIENCE, attempt, backend, fails, key, refused, release, renew, renewal, server, take,
    take_in_the_end,
};

/// R15: the script ran, the answer was lost. Asking again with the same id reads the outcome back: one hold, one token.
#[tokio::test]
async fn an_answer_that_was_lost_is_read_back() {
    let server = server(&[]);
    let proxy = Proxy::start(server.port()).await;
    let a = backend(format!("redis://127.0.0.1:{}", proxy.port()));
    let b = backend(server.url());
    let warm = attempt();
    let granted = take(&a, &warm).await;
    a.release(&release(&warm, granted)).await.unwrap();

    proxy.set(Fault::CutAnswers);
    let hold = attempt();
    let error = fails(&a, &hold).await;
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Connection, Outcome::Unknown)
    );
    refused(&b, &attempt()).await;
    proxy.set(Fault::None);
    let granted = take_in_the_end(&a, &hold).await;
    let seen = b.inspect(&key()).await.unwrap();
    assert_eq!(seen.holders.len(), 1);
    assert_eq!(seen.holders[0].token, Some(granted.token));

    // The same of a release: the second one finds it done.
    proxy.set(Fault::CutAnswers);
    let error = a.release(&release(&hold, granted)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    proxy.set(Fault::None);
    let later = take_in_the_end(&b, &attempt()).await;
    assert!(later.token > granted.token);
}

/// N1 at the backend: requests arrive, answers do not. No grant is made up; the caller's time limit ends it.
#[tokio::test]
async fn answers_that_are_swallowed_are_no_grant() {
    let server = server(&[]);
    let proxy = Proxy::start(server.port()).await;
    let a = backend(format!("redis://127.0.0.1:{}", proxy.port()));
    let warm = attempt();
    let granted = take(&a, &warm).await;
    a.release(&release(&warm, granted)).await.unwrap();
    proxy.set(Fault::SwallowAnswers);
    let hold = attempt();
    assert!(
        timeout(Duration::from_millis(300), Backend::acquire(&*a, &hold))
            .await
            .is_err()
    );
    let b = backend(server.url());
    refused(&b, &attempt()).await;
}

/// A connection that is silent for ten seconds with calls unanswered is given up for a new one, though no error came.
#[tokio::test]
async fn a_stalled_connection_is_replaced() {
    let server = server(&[]);
    let proxy = Proxy::start(server.port()).await;
    let a = backend(format!("redis://127.0.0.1:{}", proxy.port()));
    let hold = attempt();
    let granted = take(&a, &hold).await;
    proxy.set(Fault::Stall);
    let start = Instant::now();
    let request = renewal(&hold, granted);
    let renewed = loop {
        match timeout(Duration::from_secs(1), Backend::renew(&*a, &request)).await {
            Ok(Ok(renewed)) => break renewed,
            other => assert!(start.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
    };
    assert!(matches!(renewed, Renewed::Extended { .. }), "{renewed:?}");
    assert!(
        start.elapsed() > Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(proxy.accepted(), 2);
}

/// R16 (shortened): clients are killed every 200 ms. The hold stays what it is, nobody else gets it, sockets stay few.
#[tokio::test]
async fn killed_clients_come_back_one_by_one() {
    struct Silent;
    impl Events for Silent {
        fn tell(&self, _: BackendEvent) {}
    }
    let server = server(&[]);
    let (a, b) = (backend(server.url()), backend(server.url()));
    let mut running = JoinSet::new();
    for backend in [&a, &b] {
        running.spawn(Arc::clone(backend).run(Arc::new(Silent)));
    }
    let hold = attempt();
    let granted = take(&a, &hold).await;
    let (mut most, mut renewed, mut refusals, mut failed) = (0, 0, 0, 0);
    let start = Instant::now();
    let mut next_kill = start;
    while start.elapsed() < Duration::from_secs(5) {
        if Instant::now() >= next_kill {
            server.kill_clients();
            next_kill = Instant::now() + Duration::from_millis(200);
        }
        match Backend::renew(&*a, &renewal(&hold, granted)).await {
            Ok(Renewed::Extended { .. }) => renewed += 1,
            Ok(Renewed::NotOwner) => panic!("the hold was lost"),
            Err(_) => failed += 1,
        }
        match Backend::acquire(&*b, &attempt()).await {
            Ok(Acquired::Busy(_)) => refusals += 1,
            Ok(Acquired::Granted(granted)) => panic!("a second believer: {granted:?}"),
            Err(_) => failed += 1,
        }
        let clients: String = server.run(&["CLIENT", "LIST"]);
        most = most.max(
            clients
                .lines()
                .filter(|line| line.contains("name=pawl"))
                .count(),
        );
        sleep(Duration::from_millis(10)).await;
    }
    eprintln!("{renewed} renewals, {refusals} refusals, {failed} failures, {most} sockets at most");
    assert!(
        failed > 0 && renewed > 10 && refusals > 10,
        "it was not tried"
    );
    assert!(most <= 4, "{most} sockets");
}

/// A server that is away is asked with backoff, and calls fail at once in between.
#[tokio::test]
async fn a_server_that_is_away_is_asked_with_backoff() {
    let server = server(&[]);
    let proxy = Proxy::start(server.port()).await;
    server.kill();
    let a = backend(format!("redis://127.0.0.1:{}", proxy.port()));
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let error = timeout(PATIENCE, fails(&a, &attempt())).await.unwrap();
        assert_eq!(
            (error.category(), error.outcome()),
            (Category::Connection, Outcome::NotApplied)
        );
        calls += 1;
        sleep(Duration::from_millis(2)).await;
    }
    assert!(calls > 100, "{calls} calls");
    assert!(
        (2..60).contains(&proxy.accepted()),
        "{} tries",
        proxy.accepted()
    );
    server.start_again();
    let back = Instant::now();
    take_in_the_end(&a, &attempt()).await;
    assert!(
        back.elapsed() < Duration::from_secs(3),
        "{:?}",
        back.elapsed()
    );
    renew(
        &a,
        &attempt(),
        pawl_lock::backend::Granted {
            token: pawl_lock::BackendToken::MIN,
            session: 0,
            wanted: None,
        },
    )
    .await;
}
