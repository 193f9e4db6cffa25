//! The API server is gone, overloaded or in trouble.

use std::{ffi::OsString, time::Duration};

use pawl_e2e::{
    http::Stream,
    server::kubernetes::{Front, KubernetesServer, Trouble},
    sidecar::Sidecar as Process,
};
use pawl_lock::{
    Backend as _,
    backend::{Acquired, Category, Outcome, Renewed},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    bench::{Bench, PATIENCE, SHORT, attempt, renewal, shared},
    fixture::least_access,
};

/// The spec of a policy on Leases.
pub(crate) fn spec() -> Value {
    json!({
        "purpose": "Correctness",
        "backend": {"kubernetes": {}},
        "lease": {"ttl": "5s", "retain": "0s"},
    })
}

/// A sidecar that reaches the server at this address.
pub(crate) async fn process(server: &KubernetesServer, url: &str) -> Process {
    let account = server.account("e2e", "app", &least_access()).await;
    let path = OsString::from(server.kubeconfig_at(&account, url));
    Process::start_in(&[("KUBECONFIG", path)], "holder", &spec()).await
}

async fn until(stream: &mut Stream, event: &str, within: Duration) -> Value {
    let heard = async {
        while let Some((name, data)) = stream.next().await.unwrap() {
            if name == event {
                return serde_json::from_str(&data).unwrap();
            }
        }
        panic!("the stream ended before {event}");
    };
    timeout(within, heard)
        .await
        .unwrap_or_else(|_| panic!("{event} did not come within {within:?}"))
}

/// A key that is held over a stream, and the token.
async fn held(sidecar: &Process, key: &str) -> (Stream, u64) {
    let connection = sidecar.connect().await.unwrap();
    let stream = connection.stream(&Process::lock(key), "{}").await;
    let mut stream = stream.unwrap();
    let grant = until(&mut stream, "granted", PATIENCE).await;
    (stream, grant["fencingToken"].as_u64().unwrap())
}

async fn taken_again(sidecar: &Process, key: &str) -> u64 {
    let start = Instant::now();
    loop {
        let mut connection = sidecar.connect().await.unwrap();
        match connection.acquire(&Process::lock(key), "{}").await {
            Ok(lease) => return lease.token,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// K1: the API server stands still for longer than the lease. The holder is told in time, without a socket error; after
/// it went on, the next one has a larger token.
#[tokio::test]
async fn a_server_that_stands_still_ends_a_lease_in_time() {
    let server = KubernetesServer::start();
    let sidecar = process(&server, &server.url()).await;
    let (mut stream, token) = held(&sidecar, "k1").await;
    until(&mut stream, "renewed", PATIENCE).await;
    let paused = Instant::now();
    server.pause();
    until(&mut stream, "uncertain", SHORT).await;
    until(&mut stream, "lost", SHORT).await;
    assert!(
        paused.elapsed() < SHORT,
        "it was told after {:?}",
        paused.elapsed()
    );
    server.resume();
    let next = taken_again(&sidecar, "k1").await;
    assert!(next > token, "{next} after {token}");
}

/// K1: the API server answers every request with an error for longer than the lease.
#[tokio::test]
async fn a_server_in_trouble_ends_a_lease_in_time() {
    for (status, retry_after) in [
        (429, Some(1)),
        (429, Some(600)),
        (500, None),
        (503, Some(2)),
    ] {
        let server = shared();
        let front = Front::start(server).await;
        let sidecar = process(server, &front.url()).await;
        let key = format!("k1/{status}/{retry_after:?}").replace(['(', ')'], "-");
        let (mut stream, token) = held(&sidecar, &key).await;
        until(&mut stream, "renewed", PATIENCE).await;
        let started = Instant::now();
        front.set(Some(Trouble {
            status,
            retry_after,
            is_late: false,
        }));
        until(&mut stream, "lost", SHORT).await;
        assert!(
            started.elapsed() < SHORT,
            "{status}: it was told after {:?}",
            started.elapsed()
        );
        front.set(None);
        if retry_after != Some(600) {
            let next = taken_again(&sidecar, &key).await;
            assert!(next > token, "{status}: {next} after {token}");
        }
    }
}

/// Trouble that is shorter than the lease ends nothing.
#[tokio::test]
async fn short_trouble_ends_no_lease() {
    let server = shared();
    let front = Front::start(server).await;
    let sidecar = process(server, &front.url()).await;
    let (mut stream, _) = held(&sidecar, "short").await;
    until(&mut stream, "renewed", PATIENCE).await;
    front.set(Some(Trouble {
        status: 503,
        retry_after: None,
        is_late: false,
    }));
    until(&mut stream, "uncertain", SHORT).await;
    front.set(None);
    until(&mut stream, "renewed", SHORT).await;
}

/// An answer that was lost after its effect is read back: one holder, one token, and it is the attempt's.
#[tokio::test]
async fn an_outcome_that_was_lost_is_read_back() {
    let bench = Bench::new(shared()).await;
    let front = Front::start(bench.server).await;
    let a = bench.sidecar_behind(&front);
    let hold = attempt(SHORT);
    // Writes reach the server, and their answers do not come back. What is read is not, so let it see that nothing is there.
    let late = Trouble {
        status: 504,
        retry_after: None,
        is_late: true,
    };
    let first = attempt(SHORT);
    let token = a.take(&first).await;
    front.set(Some(late));
    let error = a.backend.renew(&renewal(&first, token)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    front.set(None);
    assert!(matches!(
        a.renew(&first, token).await,
        Renewed::Extended { .. }
    ));
    a.release(&first, token).await;
    front.set(Some(late));
    let error = a.backend.acquire(&hold).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    front.set(None);
    let b = bench.sidecar();
    b.refused(&attempt(SHORT)).await;
    let read_back = a.take(&hold).await;
    assert!(read_back > token);
    let spec = bench.lease().await.spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(2), "it was granted once");
}

/// A server that asks for quiet is left alone by attempts for as long as it says; renewals try again after a second.
#[tokio::test]
async fn retry_after_is_honoured() {
    let bench = Bench::new(shared()).await;
    let front = Front::start(bench.server).await;
    let a = bench.sidecar_behind(&front);
    let hold = attempt(Duration::from_secs(20));
    let token = a.take(&hold).await;
    front.set(Some(Trouble {
        status: 429,
        retry_after: Some(3),
        is_late: false,
    }));
    let error = a.backend.acquire(&attempt(SHORT)).await.unwrap_err();
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unavailable, Outcome::NotApplied)
    );
    let asked = Instant::now();
    front.counts();
    while asked.elapsed() < Duration::from_millis(2_500) {
        let error = a.backend.acquire(&attempt(SHORT)).await.unwrap_err();
        assert!(error.to_string().contains("Retry-After"), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let attempts = front.counts();
    assert!(
        !attempts.contains_key("GET") && !attempts.contains_key("PUT"),
        "{attempts:?}"
    );
    front.set(None);
    assert!(matches!(
        a.renew(&hold, token).await,
        Renewed::Extended { .. }
    ));
    let start = Instant::now();
    loop {
        match a.backend.acquire(&attempt(SHORT)).await {
            Ok(acquired) => break assert!(matches!(acquired, Acquired::Busy(_))),
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
