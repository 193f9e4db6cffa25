//! What the API server is asked. The numbers are those of `docs/backends.md`.

use std::{collections::BTreeMap, time::Duration};

use pawl_e2e::{server::kubernetes::Front, sidecar::Sidecar as Process};
use pawl_lock::{
    Backend as _, Key,
    backend::{AcquireRequest, Acquired, Category},
};
use tokio::time::{Instant, sleep};

use crate::{
    bench::{Bench, PATIENCE, SHORT, attempt, shared},
    faults::process,
};

/// How long is counted.
const COUNTED: Duration = Duration::from_secs(30);

fn sum(counts: &BTreeMap<String, u32>, methods: &[&str]) -> u32 {
    methods
        .iter()
        .filter_map(|method| counts.get(*method))
        .sum()
}

/// In a minute: nobody's sidecar at most 3 requests, a held lock 3 writes a ttl, a waiter 6 writes and as many reads.
#[tokio::test]
async fn requests_are_few() {
    let server = shared();
    let fronts = [
        Front::start(server).await,
        Front::start(server).await,
        Front::start(server).await,
    ];
    let [idle, holder, waiter] = &fronts;
    let sidecars = [
        process(server, &idle.url()).await,
        process(server, &holder.url()).await,
        process(server, &waiter.url()).await,
    ];
    let path = Process::lock("load");
    let held = sidecars[1]
        .connect()
        .await
        .unwrap()
        .stream(&path, "{}")
        .await
        .unwrap();
    let body = r#"{"wait": "1m"}"#;
    let waits = sidecars[2]
        .connect()
        .await
        .unwrap()
        .stream(&path, body)
        .await
        .unwrap();
    // Checks at the start and connections are over then.
    sleep(Duration::from_secs(8)).await;
    for front in &fronts {
        front.counts();
    }
    sleep(COUNTED).await;
    let counts: Vec<_> = fronts.iter().map(Front::counts).collect();
    eprintln!(
        "in {COUNTED:?}: idle {:?}, holder {:?}, waiter {:?}",
        counts[0], counts[1], counts[2]
    );
    drop((held, waits));
    assert!(
        sum(&counts[0], &["GET", "PUT", "POST", "WATCH"]) <= 2,
        "idle: {:?}",
        counts[0]
    );
    // A ttl of 5 s, renewed three times in it, and what the two of them write at the same time.
    let writes = sum(&counts[1], &["PUT"]);
    assert!((15..=24).contains(&writes), "holder: {:?}", counts[1]);
    assert!(
        sum(&counts[1], &["GET", "WATCH"]) <= 6,
        "holder: {:?}",
        counts[1]
    );
    assert!(sum(&counts[2], &["PUT"]) <= 8, "waiter: {:?}", counts[2]);
    assert!(
        sum(&counts[2], &["GET", "WATCH"]) <= 12,
        "waiter: {:?}",
        counts[2]
    );
}

/// A sidecar takes no more than it can renew, says so, and takes more when what it held is over.
#[tokio::test]
async fn no_more_is_held_than_can_be_renewed() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let another = |n: u32| AcquireRequest {
        key: Key::try_new(&format!("key/{n}")).unwrap(),
        ..attempt(SHORT)
    };
    let mut held = 0;
    let error = loop {
        match a.backend.acquire(&another(held)).await {
            Ok(acquired) => assert!(matches!(acquired, Acquired::Granted(_)), "{acquired:?}"),
            Err(error) => break error,
        }
        held += 1;
        assert!(held < 100, "there is no end to it");
    };
    assert_eq!((held, error.category()), (62, Category::Full), "{error}");
    let start = Instant::now();
    while let Err(error) = a.backend.acquire(&another(held)).await {
        assert!(start.elapsed() < PATIENCE, "{error}");
        sleep(Duration::from_millis(200)).await;
    }
}
