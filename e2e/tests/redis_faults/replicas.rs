//! R6: failover.

use std::time::Duration;

use pawl_e2e::server::{
    proxy::{Fault, Proxy},
    redis::{RedisOptions, RedisServer},
};
use pawl_lock::{
    Backend,
    backend::{AcquireRequest, Acquired, Category, Outcome, Renewed},
};
use pawl_sidecar::backend::redis::RedisConfig;
use tokio::time::{Instant, sleep};

use super::bench::{
    attempt, backend, configured, fails, key, release, renew, renewal, server, take,
    take_in_the_end,
};

/// A replica that follows, by way of `port`.
async fn replica_of(primary: &RedisServer, port: u16) -> RedisServer {
    let replica = RedisServer::start(RedisOptions {
        replica_of: Some(port),
        ..RedisOptions::default()
    });
    let start = Instant::now();
    let says = |server: &RedisServer, words| {
        server
            .run::<String>(&["INFO", "replication"])
            .contains(words)
    };
    while !(says(&replica, "master_link_status:up") && says(primary, "state=online")) {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the replica does not follow"
        );
        sleep(Duration::from_millis(20)).await;
    }
    replica
}

fn promote(replica: &RedisServer) {
    let _: String = replica.run(&["REPLICAOF", "NO", "ONE"]);
}

fn waiting_for_one(server: &RedisServer) -> RedisConfig {
    let mut config = RedisConfig::new(server.url());
    config.wait_replicas = 1;
    // Longer than a busy machine needs.
    config.replica_timeout = Duration::from_secs(5);
    config
}

/// Without waiting, a replica that missed the write forgets the hold: its holder is told, and tokens climb.
#[tokio::test]
async fn a_promoted_replica_that_missed_the_grant_says_so() {
    let primary = server(&[]);
    let link = Proxy::start(primary.port()).await;
    let replica = replica_of(&primary, link.port()).await;
    let a = backend(primary.url());
    let findings = a.check().await.unwrap();
    assert!(
        matches!(&*findings, [finding] if finding.reason == "ReplicasUnconfirmed" && !finding.is_fatal),
        "{findings:?}"
    );
    link.set(Fault::Stall);
    let hold = attempt();
    let granted = take(&a, &hold).await;
    primary.kill();
    promote(&replica);
    let promoted = backend(replica.url());
    assert_eq!(renew(&promoted, &hold, granted).await, Renewed::NotOwner);
    assert!(take(&promoted, &attempt()).await.token > granted.token);
}

/// With waiting, what was granted is on the replica.
#[tokio::test]
async fn a_confirmed_grant_survives_a_failover() {
    let primary = server(&[]);
    let replica = replica_of(&primary, primary.port()).await;
    let a = configured(waiting_for_one(&primary));
    assert_eq!(a.check().await.unwrap(), []);
    let hold = attempt();
    let granted = take(&a, &hold).await;
    assert!(matches!(
        renew(&a, &hold, granted).await,
        Renewed::Extended { .. }
    ));
    primary.kill();
    promote(&replica);
    let promoted = backend(replica.url());
    assert!(matches!(
        renew(&promoted, &hold, granted).await,
        Renewed::Extended { .. }
    ));
}

/// With waiting and no replica that confirms, a grant is taken back at once and a renewal is not believed.
#[tokio::test]
async fn an_unconfirmed_grant_is_taken_back() {
    let primary = server(&[]);
    let replica = replica_of(&primary, primary.port()).await;
    let mut config = waiting_for_one(&primary);
    config.replica_timeout = Duration::from_millis(500);
    let a = configured(config);
    let hold = attempt();
    let granted = take_in_the_end(&a, &hold).await;
    replica.pause();
    let error = Backend::renew(&*a, &renewal(&hold, granted))
        .await
        .unwrap_err();
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unavailable, Outcome::Unknown)
    );
    let mut hand_on = release(&hold, granted);
    hand_on.next = Some(attempt());
    let error = a.release(&hand_on).await.unwrap_err();
    assert_eq!(error.category(), Category::Unavailable);
    assert!(a.inspect(&key()).await.unwrap().holders.is_empty());
    let again = attempt();
    let error = fails(&a, &again).await;
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unavailable, Outcome::NotApplied)
    );
    assert!(a.inspect(&key()).await.unwrap().holders.is_empty());
    // The same attempt may be made again: taking a grant back is not abandoning it.
    replica.resume();
    let start = Instant::now();
    loop {
        match Backend::acquire(&*a, &again).await {
            Ok(Acquired::Granted(later)) => {
                assert!(later.token > granted.token);
                break;
            }
            other => assert!(start.elapsed() < Duration::from_secs(10), "{other:?}"),
        }
    }
}

/// Many grants that no replica confirms do not keep renewals, releases and reads from being answered.
#[tokio::test]
async fn waiting_grants_do_not_block_releases() {
    let primary = server(&[]);
    let mut config = waiting_for_one(&primary);
    config.replica_timeout = Duration::from_secs(1);
    let a = configured(config);
    let plain = backend(primary.url());
    let hold = attempt();
    let granted = take(&plain, &hold).await;
    let requests: Vec<AcquireRequest> = (0..4)
        .map(|n| AcquireRequest {
            key: pawl_lock::Key::try_new(&format!("key/w{n}")).unwrap(),
            ..attempt()
        })
        .collect();
    let grants = futures::future::join_all(
        requests
            .iter()
            .map(|request| Backend::acquire(&*a, request)),
    );
    let letting_go = async {
        sleep(Duration::from_millis(200)).await;
        let start = Instant::now();
        assert!(a.release(&release(&hold, granted)).await.unwrap().was_owner);
        a.inspect(&key()).await.unwrap();
        start.elapsed()
    };
    let (grants, elapsed) = futures::join!(grants, letting_go);
    assert!(grants.iter().all(Result::is_err), "{grants:?}");
    assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
}
