//! What people do to the objects, and what they see of them.

use std::time::Duration;

use pawl_lock::{
    Backend as _, FencingToken,
    backend::{BackendEvent, Category, Outcome, Renewed},
    lease::Mode,
};
use pawl_sidecar::backend::kubernetes::Sweep;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, PATIENCE, SHORT, Sidecar, attempt, shared};

/// `kubectl get leases` shows who holds, and a Lease of nobody shows nobody.
#[tokio::test]
async fn a_lease_can_be_read() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let hold = attempt(Duration::from_millis(7_500));
    let token = a.take(&hold).await;
    let lease = bench.lease().await;
    let name = lease.metadata.name.clone().unwrap();
    assert!(name.starts_with("pawl.jobs.report-daily-"), "{name}");
    let annotations = lease.metadata.annotations.unwrap();
    assert_eq!(annotations["pawl.dev/key"], "report/daily");
    assert_eq!(annotations["pawl.dev/token"], token.to_string());
    assert_eq!(lease.metadata.labels.unwrap()["pawl.dev/policy"], "jobs");
    let spec = lease.spec.unwrap();
    let holder = spec.holder_identity.unwrap();
    assert!(holder.starts_with("worker-1 (pawl "), "{holder}");
    assert_eq!(spec.lease_duration_seconds, Some(8), "the ttl, rounded up");
    assert_eq!(spec.lease_transitions, Some(1));
    assert!(spec.acquire_time.is_some() && spec.renew_time.is_some());
    a.release(&hold, token).await;
    let spec = bench.lease().await.spec.unwrap();
    assert_eq!(spec.holder_identity, None);
}

/// Tokens climb over a deletion, also while the clock of the next sidecar has not moved.
#[tokio::test]
async fn tokens_climb_over_deletion() {
    let bench = Bench::new(shared()).await;
    let mut last = 0;
    for _ in 0..5 {
        let sidecar = bench.sidecar();
        let hold = attempt(SHORT);
        let token = sidecar.take(&hold).await;
        assert!(token.get() > last, "{token} after {last}");
        last = token.get();
        sidecar.release(&hold, token).await;
        bench.delete().await;
    }
}

/// A holder whose object is deleted is told at once, and by its renewal.
#[tokio::test]
async fn deletion_ends_a_hold() {
    let bench = Bench::new(shared()).await;
    let mut a = bench.sidecar();
    let hold = attempt(Duration::from_mins(1));
    let token = a.take(&hold).await;
    bench.delete().await;
    a.hears(|event| matches!(event, BackendEvent::SessionLost { .. }))
        .await;
    assert_eq!(a.renew(&hold, token).await, Renewed::NotOwner);
    let b = bench.sidecar();
    assert!(b.take(&attempt(SHORT)).await > token);
}

/// Whoever edits what Pawl wrote gets an error, never a lock; and what is deleted after that works again.
#[tokio::test]
async fn an_edited_object_is_an_error() {
    let edits: [(&str, Value); 7] = [
        ("pawl.dev/lock", json!("{}")),
        ("pawl.dev/lock", json!("not JSON")),
        ("pawl.dev/lock", Value::Null),
        ("pawl.dev/token", json!("5")),
        ("pawl.dev/token", json!("-1")),
        ("pawl.dev/fence", json!("99")),
        ("pawl.dev/scope", Value::Null),
    ];
    let bench = Bench::new(shared()).await;
    for (name, value) in edits {
        let hold = attempt(SHORT);
        let a = bench.sidecar();
        let token = a.take(&hold).await;
        bench
            .edit(json!({"metadata": {"annotations": {name: value}}}))
            .await;
        for sidecar in [&bench.sidecar(), &a] {
            let error = sidecar.backend.acquire(&attempt(SHORT)).await.unwrap_err();
            let seen = (error.category(), error.outcome());
            assert_eq!(
                seen,
                (Category::Protocol, Outcome::NotApplied),
                "{name} {value}"
            );
            assert!(error.to_string().contains(name), "{error}");
        }
        bench.delete().await;
        let next = attempt(SHORT);
        let after = a.take(&next).await;
        assert!(after > token);
        a.release(&next, after).await;
        bench.delete().await;
    }
}

/// An object that is another key's is refused, not shared.
#[tokio::test]
async fn another_keys_object_is_refused() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let hold = attempt(SHORT);
    let token = a.take(&hold).await;
    a.release(&hold, token).await;
    bench
        .edit(json!({"metadata": {"annotations": {"pawl.dev/key": "report/weekly"}}}))
        .await;
    let error = bench
        .sidecar()
        .backend
        .acquire(&attempt(SHORT))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Unsafe, "{error}");
    assert!(error.to_string().contains("report/weekly"), "{error}");
}

/// Wall times that somebody writes end no hold: not in the past, not in the future.
#[tokio::test]
async fn written_times_are_not_trusted() {
    for time in ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let bench = Bench::new(shared()).await;
        let (a, b) = (bench.sidecar(), bench.sidecar());
        let hold = attempt(SHORT);
        let taken = Instant::now();
        a.take(&hold).await;
        bench
            .edit(json!({"spec": {"renewTime": time, "acquireTime": time}}))
            .await;
        b.refused(&attempt(SHORT)).await;
        // The edit made it another program's, which has a ttl of its own from when it was seen.
        b.take_in_the_end(&attempt(SHORT)).await;
        assert!(taken.elapsed() >= SHORT, "{:?}", taken.elapsed());
    }
}

/// A spec that names a holder and no duration never ends, and is said to be wrong.
#[tokio::test]
async fn a_holder_without_a_duration_is_an_error() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let hold = attempt(SHORT);
    let token = a.take(&hold).await;
    a.release(&hold, token).await;
    bench
        .edit(json!({"spec": {"holderIdentity": "me", "leaseDurationSeconds": null}}))
        .await;
    let error = bench
        .sidecar()
        .backend
        .acquire(&attempt(SHORT))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Protocol, "{error}");
}

/// There is an end to shared holders, and it is said.
#[tokio::test]
async fn a_lease_takes_so_many_holders_and_no_more() {
    let bench = Bench::new(shared()).await;
    let shared = || pawl_lock::backend::AcquireRequest {
        mode: Mode::Shared,
        ..attempt(Duration::from_mins(50))
    };
    let first = bench.sidecar();
    let mut holders = 0;
    let error = loop {
        match first.backend.acquire(&shared()).await {
            Ok(acquired) => assert!(matches!(acquired, pawl_lock::backend::Acquired::Granted(_))),
            Err(error) => break error,
        }
        holders += 1;
        assert!(holders <= 200, "more than fit");
    };
    assert_eq!(
        (holders, error.category()),
        (200, Category::Full),
        "{error}"
    );
    assert!(error.to_string().contains("200 shared holders"), "{error}");
}

/// Objects that nobody uses go away; those that are held, fenced or were used lately stay.
#[tokio::test]
async fn unused_objects_are_swept() {
    let bench = Bench::new(shared()).await;
    let mut config = bench.config();
    config.sweep = Sweep {
        every: Duration::from_secs(3),
        unused_for: Duration::from_secs(1),
        unfenced_for: Duration::from_hours(1),
    };
    let a = Sidecar::new(config);
    let key = |name: &str| pawl_lock::Key::try_new(name).unwrap();
    let of = |name| pawl_lock::backend::AcquireRequest {
        key: key(name),
        ..attempt(Duration::from_secs(6))
    };
    let (held, free) = (of("held"), of("free"));
    let holding = a.take(&held).await;
    let token = a.take(&free).await;
    a.release(&free, token).await;
    a.backend
        .fence(&key("fenced"), FencingToken::MIN)
        .await
        .unwrap();
    let names = || async {
        let all = bench
            .leases
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items;
        let keys = all.iter().filter_map(|lease| {
            lease
                .metadata
                .annotations
                .as_ref()?
                .get("pawl.dev/key")
                .cloned()
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        keys
    };
    let start = Instant::now();
    while names().await.contains(&"free".to_owned()) {
        assert!(start.elapsed() < PATIENCE * 2, "it is never swept");
        assert!(matches!(
            a.renew(&held, holding).await,
            Renewed::Extended { .. }
        ));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(names().await, ["fenced", "held"]);
    let next = of("free");
    assert!(a.take(&next).await > token, "tokens climb over a sweep");
}
