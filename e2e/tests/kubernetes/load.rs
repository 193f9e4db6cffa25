//! What the API server is asked. The numbers are those of `docs/backends.md`.

use std::{collections::BTreeMap, time::Duration};

use pawl_e2e::{server::kubernetes::Front, sidecar::Sidecar as Process};
use tokio::time::sleep;

use crate::{bench::shared, faults::process};

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
