//! Event streams.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    raw::{Raw, request},
    sidecar::{POLICY, Sidecar},
};

const STREAM: &str = "Accept: text/event-stream\r\n";

/// Asks for a stream and reads its head.
fn open(sidecar: &Sidecar, path: &str, body: &str) -> Raw {
    let mut raw = sidecar.connect();
    raw.send(request("POST", path, STREAM, body));
    begins(&mut raw);
    raw
}

fn begins(raw: &mut Raw) {
    let head = raw.head().expect("a stream");
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream")),
        "{head:?}"
    );
    assert_eq!(
        (
            head.header("transfer-encoding"),
            head.header("connection"),
            head.header("cache-control")
        ),
        (Some("chunked"), Some("close"), Some("no-store"))
    );
}

/// The next event: one chunk each. Comments are skipped.
fn event(raw: &mut Raw) -> (String, Value) {
    loop {
        let length = usize::from_str_radix(raw.until(b"\r\n").trim(), 16).unwrap();
        if length == 0 {
            return ("end".into(), Value::Null);
        }
        let text = raw.until(b"\n\n\r\n");
        assert_eq!(text.len(), length + 2);
        if let Some(event) = text.strip_prefix("event: ") {
            let (name, data) = event.split_once("\ndata: ").unwrap();
            return (name.into(), serde_json::from_str(data.trim()).unwrap());
        }
    }
}

fn release(sidecar: &Sidecar, grant: &Value) -> u16 {
    sidecar
        .call(
            "DELETE",
            &format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap()),
            "",
        )
        .status
}

fn is_held(sidecar: &Sidecar, key: &str) -> bool {
    sidecar
        .call("GET", &format!("/v1/locks/p/{key}"), "")
        .json()["held"]
        == true
}

#[test]
fn a_lease_lives_as_long_as_its_stream() {
    let sidecar = Sidecar::start();
    let mut raw = open(&sidecar, "/v1/locks/p/k", "{\"ttl\":\"1s\"}");
    let (name, grant) = event(&mut raw);
    assert_eq!(
        (&*name, &grant["key"], &grant["ttlMs"]),
        ("granted", &json!("k"), &json!(1_000))
    );
    for _ in 0..3 {
        let (name, data) = event(&mut raw);
        assert_eq!(name, "renewed");
        assert!(data["expiresInMs"].as_u64().unwrap() <= 988 && data["validUntil"].is_string());
    }
    assert!(is_held(&sidecar, "k"), "more than its ttl later");
    let clock = pawl_kit::clock::Clock::system();
    let start = clock.now();
    drop(raw);
    sidecar.eventually("it is released", |sidecar| !is_held(sidecar, "k"));
    assert!(clock.now().saturating_since(start) < Duration::from_secs(1));
}

#[test]
fn the_place_in_the_queue_is_told_at_once_and_when_it_changes() {
    let sidecar = Sidecar::start();
    let first = sidecar.acquire("p/k", "");
    let wait = "{\"wait\":\"1m\"}";
    let mut second = open(&sidecar, "/v1/locks/p/k", wait);
    assert_eq!(
        event(&mut second),
        ("queued".into(), json!({"position": 1}))
    );
    let mut third = open(&sidecar, "/v1/locks/p/k", wait);
    assert_eq!(event(&mut third), ("queued".into(), json!({"position": 2})));
    release(&sidecar, &first);
    let (name, grant) = event(&mut second);
    assert_eq!(name, "granted");
    assert_eq!(event(&mut third), ("queued".into(), json!({"position": 1})));
    drop(second);
    let (name, next) = event(&mut third);
    assert_eq!(name, "granted");
    assert!(next["fencingToken"].as_u64() > grant["fencingToken"].as_u64());
}

#[test]
fn a_stream_that_closes_while_it_waits_gives_up_its_place() {
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "");
    let mut raw = open(&sidecar, "/v1/locks/p/k", "{\"wait\":\"1m\"}");
    assert_eq!(event(&mut raw).0, "queued");
    assert_eq!(sidecar.waiters("p"), 1);
    drop(raw);
    sidecar.eventually("nobody waits", |sidecar| sidecar.waiters("p") == 0);
}

#[test]
fn what_is_refused_before_it_waits_is_an_ordinary_answer() {
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "");
    let mut raw = sidecar.connect();
    let answer = raw.call_with("POST", "/v1/locks/p/k", STREAM, "");
    assert_eq!((answer.status, &*answer.code()), (423, "held"));
    let answer = raw.call_with("POST", "/v1/locks/p/k", STREAM, "{\"ttl\":\"1h\"}");
    assert_eq!(answer.status, 422, "and the connection goes on");
    let answer = raw.call_with(
        "POST",
        "/v1/locks/p/k",
        "Accept: text/event-stream\r\nIdempotency-Key: a\r\n",
        "",
    );
    assert_eq!((answer.status, &*answer.code()), (400, "invalid_parameter"));
}

#[test]
fn a_wait_that_is_over_ends_the_stream_with_the_problem() {
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "{\"owner\":\"me\"}");
    let mut raw = open(&sidecar, "/v1/locks/p/k", "{\"wait\":\"300ms\"}");
    assert_eq!(event(&mut raw).0, "queued");
    let (name, problem) = event(&mut raw);
    assert_eq!(
        (&*name, &problem["code"], &problem["holder"]["owner"]),
        ("failed", &json!("held"), &json!("me"))
    );
    assert_eq!(event(&mut raw).0, "end");
    raw.until(b"\r\n");
    raw.ends();
}

#[test]
fn lost_is_the_last_event() {
    let sidecar = Sidecar::start();
    let mut raw = open(&sidecar, "/v1/locks/p/k", "{\"maxHold\":\"400ms\"}");
    assert_eq!(event(&mut raw).0, "granted");
    let (name, data) = event(&mut raw);
    assert_eq!((&*name, &data["reason"]), ("lost", &json!("max_hold")));
    assert_eq!(event(&mut raw).0, "end");
    raw.until(b"\r\n");
    raw.ends();
}

#[test]
fn several_keys_can_be_held_by_one_stream() {
    let sidecar = Sidecar::start();
    let mut raw = open(&sidecar, "/v1/locks/p", "{\"keys\":[\"b\",\"a\"]}");
    let (name, grant) = event(&mut raw);
    assert_eq!(
        (&*name, &grant["grants"][0]["key"]),
        ("granted", &json!("a"))
    );
    assert!(is_held(&sidecar, "a") && is_held(&sidecar, "b"));
    drop(raw);
    sidecar.eventually("both are released", |sidecar| {
        !is_held(sidecar, "a") && !is_held(sidecar, "b")
    });
}

#[test]
fn a_release_by_id_ends_the_stream_too() {
    let sidecar = Sidecar::start();
    let mut raw = open(&sidecar, "/v1/locks/p/k", "");
    let (_, grant) = event(&mut raw);
    assert_eq!(release(&sidecar, &grant), 204);
    assert_eq!(event(&mut raw), ("released".into(), json!({})));
    assert_eq!(event(&mut raw).0, "end");
}

#[test]
fn the_changes_of_a_lease_can_be_watched() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "{\"ttl\":\"1s\"}");
    let path = format!("/v1/leases/{}/events", grant["leaseId"].as_str().unwrap());
    let mut raw = sidecar.connect();
    raw.send(request("GET", &path, "", ""));
    begins(&mut raw);
    assert_eq!(event(&mut raw).0, "renewed", "the state at the start");
    assert_eq!(event(&mut raw).0, "renewed");
    let mut other = sidecar.connect();
    other.send(request("GET", &path, STREAM, ""));
    begins(&mut other);
    drop(other);
    assert_eq!(event(&mut raw).0, "renewed");
    assert!(
        is_held(&sidecar, "k"),
        "a watcher that leaves releases nothing"
    );
    assert_eq!(release(&sidecar, &grant), 204);
    while event(&mut raw).0 != "released" {}
    assert_eq!(event(&mut raw).0, "end");
}

#[test]
fn a_drain_is_told_as_lost() {
    let mut sidecar = Sidecar::start();
    let mut raw = open(&sidecar, "/v1/locks/p/k", "");
    assert_eq!(event(&mut raw).0, "granted");
    sidecar.signal("TERM");
    let (name, data) = event(&mut raw);
    assert_eq!((&*name, &data["reason"]), ("lost", &json!("draining")));
    assert_eq!(event(&mut raw).0, "end");
    assert_eq!(sidecar.process.wait().unwrap().code(), Some(0));
}

#[test]
fn http_1_0_gets_its_events_without_chunks() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send("POST /v1/locks/p/k HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    assert_eq!(raw.head().unwrap().header("transfer-encoding"), None);
    assert!(
        raw.until(b"\n\n")
            .starts_with("event: granted\ndata: {\"leaseId\"")
    );
}

/// S4: a lease is renewed only as long as somebody shows that its owner lives.
#[test]
fn an_open_stream_keeps_a_lease_from_its_idle_limit() {
    let policy = POLICY.replace("maxTtl: 5m", "maxTtl: 5m, idle: 1s");
    let sidecar = Sidecar::with(&[("p", &policy)], |_| ());
    let mut held = open(&sidecar, "/v1/locks/p/stream", "{\"ttl\":\"500ms\"}");
    assert_eq!(event(&mut held).0, "granted");
    let grant = sidecar.acquire("p/forgotten", "{\"ttl\":\"500ms\"}");
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    sidecar.eventually("it is idle", |sidecar| !is_held(sidecar, "forgotten"));
    assert_eq!(sidecar.call("GET", &path, "").json()["reason"], "idle");
    assert!(is_held(&sidecar, "stream"));
}
