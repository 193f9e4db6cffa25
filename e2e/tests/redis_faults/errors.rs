//! R14: whatever the server says, never a grant.

use std::{sync::Arc, time::Duration};

use pawl_e2e::server::redis::{RedisOptions, RedisServer};
use pawl_lock::{
    Backend,
    backend::{Category, Outcome},
};
use pawl_sidecar::backend::redis::Redis;
use tokio::time::{Instant, sleep};

use super::bench::{attempt, backend, fails, release, server, take, take_in_the_end};

async fn is_unavailable(server: &RedisServer, word: &str) {
    let a = backend(server.url());
    let error = fails(&a, &attempt()).await;
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.to_string().contains(word), "{error}");
}

#[tokio::test]
async fn a_replica_takes_no_lock() {
    let primary = server(&[]);
    let replica = RedisServer::start(RedisOptions {
        replica_of: Some(primary.port()),
        ..RedisOptions::default()
    });
    is_unavailable(&replica, "replica").await;
}

#[tokio::test]
async fn a_server_with_too_few_replicas_takes_no_lock() {
    is_unavailable(
        &server(&["min-replicas-to-write 1"]),
        "min-replicas-to-write",
    )
    .await;
}

#[tokio::test]
async fn a_cluster_without_slots_takes_no_lock() {
    is_unavailable(&server(&["cluster-enabled yes"]), "Cluster").await;
}

/// MOVED from a real node. A standalone backend does not follow it; it says what is wrong.
#[tokio::test]
async fn a_node_that_does_not_serve_the_key_says_so() {
    let nodes = [
        server(&["cluster-enabled yes"]),
        server(&["cluster-enabled yes"]),
    ];
    let _: String = nodes[0].run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let _: String = nodes[1].run(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port().to_string()]);
    let start = Instant::now();
    while !nodes[1]
        .run::<String>(&["CLUSTER", "INFO"])
        .contains("cluster_state:ok")
    {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the nodes do not meet"
        );
        sleep(Duration::from_millis(50)).await;
    }
    is_unavailable(&nodes[1], "Cluster").await;
    // The one that serves all slots is as good as a standalone server: all keys of a lock are in one slot.
    take(&backend(nodes[0].url()), &attempt()).await;
}

/// Runs a command that takes its time, while `meanwhile` runs.
async fn during<T>(
    server: &Arc<RedisServer>,
    command: &'static [&'static str],
    meanwhile: impl Future<Output = T>,
) -> T {
    let runs = Arc::clone(server);
    let slow = tokio::task::spawn_blocking(move || {
        // Its own answer may be that it was killed.
        runs.try_run::<redis::Value>(command).ok();
    });
    let outcome = meanwhile.await;
    slow.await.unwrap();
    outcome
}

/// Asks until the answer has the word in it.
async fn comes_to_say(backend: &Redis, word: &str) {
    let start = Instant::now();
    loop {
        let message = match Backend::acquire(backend, &attempt()).await {
            Err(error) => {
                assert_eq!(
                    (error.category(), error.outcome()),
                    (Category::Unavailable, Outcome::NotApplied),
                    "{error}"
                );
                error.to_string()
            }
            Ok(acquired) => format!("{acquired:?}"),
        };
        if message.contains(word) {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "it never says {word}: {message}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_loading_server_gives_nothing_until_it_has_loaded() {
    let server = Arc::new(server(&[
        "loading-process-events-interval-bytes 1024",
        "key-load-delay 200",
    ]));
    let a = backend(server.url());
    let hold = attempt();
    let granted = take(&a, &hold).await;
    let _: String = server.run(&["DEBUG", "POPULATE", "10000", "filler", "100"]);
    during(&server, &["DEBUG", "RELOAD"], async {
        comes_to_say(&a, "reading its data").await;
        // One that connects in the meantime is told the same.
        comes_to_say(&backend(server.url()), "reading its data").await;
    })
    .await;
    assert!(a.release(&release(&hold, granted)).await.unwrap().was_owner);
    take(&a, &attempt()).await;
}

#[tokio::test]
async fn a_busy_server_gives_nothing_until_it_is_not() {
    let server = Arc::new(server(&["busy-reply-threshold 10"]));
    let a = backend(server.url());
    let hold = attempt();
    let granted = take(&a, &hold).await;
    during(&server, &["EVAL", "while true do end", "0"], async {
        comes_to_say(&a, "busy").await;
        comes_to_say(&backend(server.url()), "busy").await;
        let _: String = server.run(&["SCRIPT", "KILL"]);
    })
    .await;
    assert!(a.release(&release(&hold, granted)).await.unwrap().was_owner);
    take_in_the_end(&a, &attempt()).await;
}
