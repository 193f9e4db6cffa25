//! `Idempotency-Key`: S8 of TESTS.md, and what it must not do.

use serde_json::Value;

use crate::{
    raw::{Answer, request},
    sidecar::Sidecar,
};

const PATH: &str = "/v1/locks/p/k";

fn call(sidecar: &Sidecar, key: &str, method: &str, path: &str, body: &str) -> Answer {
    let line = format!("Idempotency-Key: {key}\r\n");
    sidecar.connect().call_with(method, path, &line, body)
}

fn lease(grant: &Value) -> String {
    format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap())
}

#[test]
fn a_repeated_acquire_is_the_same_grant_with_the_time_that_is_left() {
    let sidecar = Sidecar::start();
    let first = call(
        &sidecar,
        "a",
        "POST",
        PATH,
        "{\"ttl\":\"30s\",\"renew\":\"manual\"}",
    )
    .json();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let again = call(
        &sidecar,
        "a",
        "POST",
        PATH,
        "{\"ttl\":\"30s\",\"renew\":\"manual\"}",
    )
    .json();
    assert_eq!(
        (&first["leaseId"], &first["fencingToken"]),
        (&again["leaseId"], &again["fencingToken"])
    );
    assert!(
        again["expiresInMs"].as_u64().unwrap() + 50 <= first["expiresInMs"].as_u64().unwrap(),
        "{first} {again}"
    );
    assert_eq!(
        sidecar.call("GET", "/v1/locks/p", "").json()["leaseCount"],
        1
    );
    assert_eq!(
        call(&sidecar, "b", "POST", PATH, "").status,
        423,
        "another key is another request"
    );
}

#[test]
fn another_request_with_the_same_key_is_422() {
    let sidecar = Sidecar::start();
    assert_eq!(call(&sidecar, "a", "POST", PATH, "").status, 200);
    for (method, path, body) in [
        ("POST", PATH, "{}"),
        ("POST", "/v1/locks/p/other", ""),
        ("DELETE", "/v1/leases/00000000000000000000000000000000", ""),
    ] {
        let answer = call(&sidecar, "a", method, path, body);
        assert_eq!(
            (answer.status, &*answer.code()),
            (422, "idempotency_mismatch"),
            "{method} {path} {body}"
        );
    }
}

/// Law 3: a replay never says that a lease is held which is not.
#[test]
fn a_grant_that_is_over_is_not_replayed() {
    let sidecar = Sidecar::start();
    let body = "{\"ttl\":\"200ms\",\"renew\":\"manual\"}";
    let grant = call(&sidecar, "a", "POST", PATH, body).json();
    sidecar.eventually("it is lost", |sidecar| {
        sidecar.call("GET", &lease(&grant), "").status == 410
    });
    let again = call(&sidecar, "a", "POST", PATH, body);
    assert_eq!((again.status, &*again.code()), (410, "lease_lost"));
    assert_eq!(again.json()["reason"], "not_renewed");
    let grant = call(&sidecar, "b", "POST", PATH, "").json();
    assert_eq!(sidecar.call("DELETE", &lease(&grant), "").status, 204);
    let again = call(&sidecar, "b", "POST", PATH, "");
    assert_eq!((again.status, &*again.code()), (410, "lease_released"));
}

#[test]
fn renew_and_release_are_replayed() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "{\"renew\":\"manual\"}");
    let path = lease(&grant);
    for _ in 0..2 {
        let renewed = call(
            &sidecar,
            "r",
            "POST",
            &format!("{path}/renew"),
            "{\"ttl\":\"1m\"}",
        );
        assert_eq!(
            (renewed.status, renewed.json()["ttlMs"].as_u64()),
            (200, Some(60_000))
        );
    }
    for _ in 0..3 {
        assert_eq!(call(&sidecar, "d", "DELETE", &path, "").status, 204);
    }
    assert_eq!(
        call(&sidecar, "e", "DELETE", &path, "").status,
        410,
        "another key is another release"
    );
    assert_eq!(
        call(
            &sidecar,
            "r",
            "POST",
            &format!("{path}/renew"),
            "{\"ttl\":\"1m\"}"
        )
        .status,
        410
    );
}

#[test]
fn what_failed_is_not_remembered() {
    let sidecar = Sidecar::start();
    let first = sidecar.acquire("p/k", "");
    assert_eq!(call(&sidecar, "a", "POST", PATH, "").status, 423);
    assert_eq!(sidecar.call("DELETE", &lease(&first), "").status, 204);
    assert_eq!(call(&sidecar, "a", "POST", PATH, "").status, 200);
}

#[test]
fn requests_at_the_same_time_are_one_and_outlive_the_first_caller() {
    let sidecar = Sidecar::start();
    let holder = sidecar.acquire("p/k", "");
    let wait = request("POST", PATH, "Idempotency-Key: a\r\n", "{\"wait\":\"1m\"}");
    let (mut first, mut second, mut third) =
        (sidecar.connect(), sidecar.connect(), sidecar.connect());
    first.send(&wait);
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    second.send(&wait);
    third.send(&wait);
    // Both have joined when a request behind them on another connection is answered.
    let mismatch = call(&sidecar, "a", "POST", PATH, "");
    assert_eq!(mismatch.status, 422);
    assert_eq!(sidecar.waiters("p"), 1, "three callers, one place");
    drop(first);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(sidecar.waiters("p"), 1, "the others go on");
    sidecar.call("DELETE", &lease(&holder), "");
    let (second, third) = (second.answer().json(), third.answer().json());
    assert_eq!(second["leaseId"], third["leaseId"]);
    assert_eq!(
        sidecar.call("GET", "/v1/locks/p", "").json()["leaseCount"],
        1
    );
}

#[test]
fn when_all_callers_left_the_place_is_given_up() {
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "");
    let wait = request("POST", PATH, "Idempotency-Key: a\r\n", "{\"wait\":\"1m\"}");
    let mut only = sidecar.connect();
    only.send(&wait);
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    drop(only);
    sidecar.eventually("nobody waits", |sidecar| sidecar.waiters("p") == 0);
}

#[test]
fn a_key_is_1_to_128_printable_characters() {
    let sidecar = Sidecar::start();
    for key in ["", &"x".repeat(129), "\u{e4}"] {
        let answer = call(&sidecar, key, "POST", PATH, "");
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "invalid_parameter"),
            "{key}"
        );
    }
    let twice = sidecar.connect().call_with(
        "POST",
        PATH,
        "Idempotency-Key: a\r\nIdempotency-Key: a\r\n",
        "",
    );
    assert_eq!(twice.status, 400);
    assert_eq!(
        call(&sidecar, &"x".repeat(128), "POST", PATH, "").status,
        200
    );
}
