//! TESTS.md 3, Ownership.

use serde_json::json;

use crate::sidecar::{POLICY, Sidecar};

#[test]
fn a_forged_lease_id_is_404() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "");
    let id = grant["leaseId"].as_str().unwrap();
    let flipped = if id.starts_with('0') { "1" } else { "0" }.to_owned() + &id[1..];
    let forged = [
        "0".repeat(32),
        flipped,
        id.to_uppercase() + "A",
        id[1..].to_owned(),
        id.to_owned() + "0",
        "k".into(),
        "..".into(),
        "%00".into(),
        "-".into(),
    ];
    for forged in &forged {
        for (method, path) in [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/renew"),
            ("GET", "/events"),
        ] {
            let answer = sidecar.call(method, &format!("/v1/leases/{forged}{path}"), "");
            assert_eq!(
                (answer.status, &*answer.code()),
                (404, "unknown_lease"),
                "{method} {forged}{path}"
            );
        }
    }
    assert_eq!(
        sidecar.call("GET", &format!("/v1/leases/{id}"), "").json()["state"],
        "held"
    );
}

#[test]
fn a_lease_of_another_sidecar_is_404() {
    let (first, second) = (Sidecar::start(), Sidecar::start());
    let grant = first.acquire("p/k", "");
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    assert_eq!(second.call("DELETE", &path, "").code(), "unknown_lease");
}

#[test]
fn no_list_shows_a_lease_id() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "");
    let id = grant["leaseId"].as_str().unwrap();
    for path in ["/v1/locks/p", "/v1/locks/p/k"] {
        assert!(!sidecar.call("GET", path, "").body.contains(id));
    }
    assert!(
        !sidecar.call("POST", "/v1/locks/p/k", "").body.contains(id),
        "a refusal"
    );
}

#[test]
fn a_second_release_is_410_with_its_reason() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "");
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    let answer = sidecar.call("DELETE", &path, "");
    assert_eq!((answer.status, &*answer.body), (204, ""));
    assert_eq!(answer.header("content-length"), None);
    for (method, tail) in [("DELETE", ""), ("GET", ""), ("POST", "/renew")] {
        let answer = sidecar.call(method, &format!("{path}{tail}"), "");
        assert_eq!((answer.status, &*answer.code()), (410, "lease_released"));
        assert_eq!(answer.json()["reason"], "released");
    }
}

#[test]
fn a_lease_that_was_lost_stays_lost() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "{\"ttl\":\"200ms\",\"renew\":\"manual\"}");
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    sidecar.eventually("it is lost", |sidecar| {
        sidecar.call("GET", &path, "").status == 410
    });
    for (method, tail) in [
        ("POST", "/renew"),
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/renew"),
        ("GET", "/events"),
    ] {
        let answer = sidecar.call(method, &format!("{path}{tail}"), "");
        assert_eq!(
            (answer.status, &*answer.code()),
            (410, "lease_lost"),
            "{method} {tail}"
        );
        assert_eq!(answer.json()["reason"], "not_renewed");
    }
    assert_eq!(
        sidecar.call("GET", "/v1/locks/p/k", "").json()["held"],
        false
    );
}

#[test]
fn a_renewed_lease_reaches_further_and_keeps_its_token() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/k", "{\"ttl\":\"2s\",\"renew\":\"manual\"}");
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    let renewed = sidecar
        .call("POST", &format!("{path}/renew"), "{\"ttl\":\"1m\"}")
        .json();
    assert_eq!(renewed["fencingToken"], grant["fencingToken"]);
    assert_eq!(
        (&renewed["ttlMs"], &renewed["renew"]),
        (&json!(60_000), &json!("manual"))
    );
    assert!(
        renewed["expiresInMs"].as_u64().unwrap() > 50_000,
        "{renewed}"
    );
    let answer = sidecar.call("POST", &format!("{path}/renew"), "{\"ttl\":\"6m\"}");
    assert_eq!(
        (answer.status, &answer.json()["field"]),
        (422, &json!("ttl"))
    );
    let answer = sidecar.call("POST", &format!("{path}/renew"), "{\"wait\":\"1s\"}");
    assert_eq!(answer.code(), "unknown_field");
}

#[test]
fn tokens_at_the_fence_are_the_newest_or_refused() {
    let sidecar = Sidecar::start();
    let fence = |token: &str| {
        sidecar.call(
            "POST",
            "/v1/fences/p/k",
            &format!("{{\"fencingToken\":{token}}}"),
        )
    };
    let taken = fence("100");
    assert_eq!(
        (taken.status, taken.json()),
        (
            200,
            json!({"policy": "p", "key": "k", "fencingToken": 100, "highest": 100})
        )
    );
    assert_eq!(fence("100").status, 200, "the newest again");
    let stale = fence("99");
    assert_eq!((stale.status, &*stale.code()), (409, "stale_token"));
    assert_eq!(stale.json()["highest"], 100);
    for wrong in [
        "-1",
        "0",
        "1.5",
        "9007199254740992",
        "1e400",
        "\"100\"",
        "null",
        "true",
        "[]",
        "18446744073709551616",
    ] {
        let answer = fence(wrong);
        let expected = if wrong == "1e400" {
            (400, "invalid_json")
        } else {
            (422, "invalid_field")
        };
        assert_eq!((answer.status, &*answer.code()), expected, "{wrong}");
    }
    for (body, code) in [
        ("", "invalid_field"),
        ("{}", "invalid_field"),
        ("{\"token\":1}", "unknown_field"),
        ("{\"fencingToken\":1,\"fencingToken\":2}", "duplicate_field"),
    ] {
        let answer = sidecar.call("POST", "/v1/fences/p/k", body);
        assert_eq!((answer.status, &*answer.code()), (422, code), "{body}");
    }
    assert_eq!(fence("9007199254740991").status, 200);
    let grant = sidecar.acquire("p/other", "")["fencingToken"]
        .as_u64()
        .unwrap();
    let fresh = sidecar.call(
        "POST",
        "/v1/fences/p/other",
        &format!("{{\"fencingToken\":{grant}}}"),
    );
    assert_eq!(fresh.status, 200);
}

#[test]
fn an_acquire_while_it_drains_is_503() {
    let sidecar = Sidecar::with(&[("p", POLICY)], |command| {
        command.args(["--drain-timeout", "30s"]);
    });
    let grant = sidecar.acquire("p/k", "");
    let mut waiting = sidecar.connect();
    waiting.send(crate::raw::request(
        "POST",
        "/v1/locks/p/k",
        "",
        "{\"wait\":\"30s\"}",
    ));
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    sidecar.signal("TERM");
    let answer = waiting.answer();
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "draining"),
        "one that waited"
    );
    let answer = sidecar.call("POST", "/v1/locks/p/other", "");
    assert_eq!((answer.status, &*answer.code()), (503, "draining"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    assert_eq!(
        sidecar.call("GET", &path, "").json()["state"],
        "held",
        "leases live on"
    );
    assert_eq!(sidecar.call("DELETE", &path, "").status, 204);
    let mut sidecar = sidecar;
    assert_eq!(sidecar.process.wait().unwrap().code(), Some(0));
}
