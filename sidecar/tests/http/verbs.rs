//! What the calls answer when all is well, and how leaving is seen.

use std::time::Duration;

use serde_json::json;

use crate::{
    raw::{Raw, request},
    sidecar::{POLICY, Sidecar},
};

const WAIT: &str = "{\"wait\":\"1m\"}";

#[test]
fn a_grant_says_what_was_granted() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/a/b", "{\"ttl\":\"3s\",\"wait\":\"0s\",\"owner\":\"me\",\"mode\":\"exclusive\",\"renew\":\"manual\",\"maxHold\":\"1m\"}");
    let fields: Vec<&str> = grant
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = [
        "leaseId",
        "policy",
        "key",
        "fencingToken",
        "mode",
        "ttlMs",
        "expiresInMs",
        "validUntil",
        "waitedMs",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(
        (
            &grant["policy"],
            &grant["key"],
            &grant["mode"],
            &grant["ttlMs"]
        ),
        (
            &json!("p"),
            &json!("a/b"),
            &json!("exclusive"),
            &json!(3_000)
        )
    );
    // The deadline rule: a hundredth and 2 ms are taken off.
    let left = grant["expiresInMs"].as_u64().unwrap();
    assert!((1..=2_968).contains(&left), "{left}");
    let token = grant["fencingToken"].as_u64().unwrap();
    assert!((1..1 << 53).contains(&token));
    assert_eq!(grant["leaseId"].as_str().unwrap().len(), 32);
    let holder = sidecar.call("GET", "/v1/locks/p/a/b", "").json();
    assert_eq!(
        (&holder["held"], &holder["owner"], &holder["fencingToken"]),
        (&json!(true), &json!("me"), &json!(token))
    );
    assert_eq!(holder["holders"].as_array().unwrap().len(), 1);
    let free = sidecar.call("GET", "/v1/locks/p/free", "").json();
    assert_eq!(
        free,
        json!({"policy": "p", "key": "free", "held": false, "waiters": 0, "local": false, "holders": []})
    );
}

#[test]
fn a_held_key_is_423_with_its_holder() {
    let sidecar = Sidecar::start();
    let token = sidecar.acquire("p/k", "{\"owner\":\"me\"}")["fencingToken"].clone();
    for body in ["", "{\"wait\":\"100ms\"}"] {
        let answer = sidecar.call("POST", "/v1/locks/p/k", body);
        assert_eq!((answer.status, &*answer.code()), (423, "held"));
        let problem = answer.json();
        assert_eq!(
            (
                &problem["holder"]["owner"],
                &problem["holder"]["mode"],
                &problem["key"]
            ),
            (&json!("me"), &json!("exclusive"), &json!("k"))
        );
        assert_eq!(
            problem["holder"]["fencingToken"]
                .as_u64()
                .map(|shown| shown / 1024),
            token.as_u64().map(|token| token / 1024)
        );
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        let millis = problem["retryAfterMs"].as_u64().unwrap();
        assert_eq!(seconds, millis.div_ceil(1_000), "{problem}");
    }
}

#[test]
fn the_only_policy_is_also_called_dash() {
    let one = Sidecar::start();
    assert_eq!(one.acquire("-/k", "")["policy"], "p");
    assert_eq!(one.call("GET", "/v1/locks/-", "").json()["policy"], "p");
    let two = Sidecar::with(&[("p", POLICY), ("q", POLICY)], |_| ());
    let answer = two.call("POST", "/v1/locks/-/k", "");
    assert_eq!((answer.status, &*answer.code()), (404, "ambiguous_policy"));
    assert_eq!(answer.json()["policies"], json!(["p", "q"]));
    assert_eq!(two.acquire("q/k", "")["policy"], "q");
}

#[test]
fn shared_leases_live_beside_each_other() {
    let sidecar = Sidecar::start();
    let shared = "{\"mode\":\"shared\"}";
    let (first, second) = (
        sidecar.acquire("p/k", shared),
        sidecar.acquire("p/k", shared),
    );
    assert_eq!(
        (&first["mode"], &second["mode"]),
        (&json!("shared"), &json!("shared"))
    );
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64());
    assert_eq!(sidecar.call("POST", "/v1/locks/p/k", "").status, 423);
    let holders = sidecar.call("GET", "/v1/locks/p/k", "").json();
    assert_eq!(holders["holders"].as_array().unwrap().len(), 2, "{holders}");
    for grant in [first, second] {
        let path = format!(
            "/v1/leases/{}?confirm=true",
            grant["leaseId"].as_str().unwrap()
        );
        assert_eq!(sidecar.call("DELETE", &path, "").status, 204);
    }
    assert_eq!(sidecar.call("POST", "/v1/locks/p/k", "").status, 200);
}

#[test]
fn several_keys_are_taken_all_or_none() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p", "{\"keys\":[\"b\",\"a\",\"c/d\"]}");
    let keys: Vec<&str> = grant["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["a", "b", "c/d"]);
    assert!(
        grant.get("key").is_none() && grant["leaseId"].is_string() && grant["expiresInMs"].is_u64()
    );
    let answer = sidecar.call("POST", "/v1/locks/p", "{\"keys\":[\"x\",\"b\"]}");
    assert_eq!((answer.status, &answer.json()["key"]), (423, &json!("b")));
    sidecar.eventually("x is free", |sidecar| {
        sidecar.call("GET", "/v1/locks/p/x", "").json()["held"] == false
    });
    let path = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    assert_eq!(
        sidecar.call("GET", &path, "").json()["grants"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(sidecar.call("DELETE", &path, "").status, 204);
    for key in ["a", "b", "c/d"] {
        assert_eq!(
            sidecar
                .call("GET", &format!("/v1/locks/p/{key}"), "")
                .json()["held"],
            false
        );
    }
    let one = sidecar.acquire("p", "{\"keys\":[\"a\"]}");
    assert_eq!(one["grants"].as_array().unwrap().len(), 1);
    let many: Vec<String> = (0..65).map(|n| format!("\"k{n}\"")).collect();
    for (keys, status) in [
        ("[]", 422),
        ("[\"a\",\"a\"]", 422),
        ("[\"..\"]", 422),
        ("[1]", 422),
        ("\"a\"", 422),
        (&*format!("[{}]", many.join(",")), 422),
    ] {
        let answer = sidecar.call("POST", "/v1/locks/p", &format!("{{\"keys\":{keys}}}"));
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (status, &json!("keys")),
            "{keys}"
        );
    }
    assert_eq!(
        sidecar.call("POST", "/v1/locks/p", "").json()["field"],
        "keys"
    );
}

#[test]
fn the_list_shows_leases_holds_and_waiters() {
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "{\"owner\":\"me\"}");
    let mut waiting = sidecar.connect();
    waiting.send(request("POST", "/v1/locks/p/k", "", WAIT));
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    let list = sidecar.call("GET", "/v1/locks/p", "").json();
    assert_eq!(
        (
            &list["policy"],
            &list["backend"],
            &list["leaseCount"],
            &list["holdCount"]
        ),
        (&json!("p"), &json!("memory"), &json!(1), &json!(1))
    );
    assert_eq!(
        list["holds"],
        json!([{"key": "k", "held": true, "leases": 1, "waiters": 1}])
    );
    let lease = &list["leases"][0];
    assert_eq!(
        (&lease["key"], &lease["owner"], &lease["state"]),
        (&json!("k"), &json!("me"), &json!("held"))
    );
}

#[test]
fn a_waiter_is_served_when_the_key_is_released() {
    let sidecar = Sidecar::start();
    let first = sidecar.acquire("p/k", "");
    let mut waiting = sidecar.connect();
    waiting.send(request("POST", "/v1/locks/p/k", "", WAIT));
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    assert_eq!(
        sidecar
            .call(
                "DELETE",
                &format!("/v1/leases/{}", first["leaseId"].as_str().unwrap()),
                ""
            )
            .status,
        204
    );
    let second = waiting.answer().json();
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64());
    assert!(second["waitedMs"].as_u64().is_some());
}

/// Law 5.
#[test]
fn a_waiter_that_closed_is_forgotten_within_a_second() {
    let sidecar = Sidecar::start();
    let first = sidecar.acquire("p/k", "");
    let mut left = sidecar.connect();
    left.send(request("POST", "/v1/locks/p/k", "", WAIT));
    let mut stays = sidecar.connect();
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    stays.send(request("POST", "/v1/locks/p/k", "", WAIT));
    sidecar.eventually("both wait", |sidecar| sidecar.waiters("p") == 2);
    let clock = pawl_kit::clock::Clock::system();
    let start = clock.now();
    drop(left);
    sidecar.eventually("one left", |sidecar| sidecar.waiters("p") == 1);
    let took = clock.now().saturating_since(start);
    assert!(took < Duration::from_secs(1), "{took:?}");
    sidecar.call(
        "DELETE",
        &format!("/v1/leases/{}", first["leaseId"].as_str().unwrap()),
        "",
    );
    assert_eq!(stays.answer().status, 200);
}

/// Law 5, for a caller that fills its socket before it leaves.
#[test]
fn a_waiter_that_closed_behind_much_that_it_sent_is_forgotten() {
    let sidecar = Sidecar::start();
    sidecar.acquire("p/k", "");
    let mut left = sidecar.connect();
    left.send(request("POST", "/v1/locks/p/k", "", WAIT));
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    left.send(request("GET", "/v1/locks/p", "", "").repeat(1_000));
    assert_eq!(sidecar.waiters("p"), 1);
    drop(left);
    sidecar.eventually("it left", |sidecar| sidecar.waiters("p") == 0);
}

/// A caller that closes one half of its connection has nothing more to say; what needs no waiting is still answered.
#[test]
fn a_half_closed_caller_is_answered_but_does_not_wait() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    let answer = raw
        .send(request("POST", "/v1/locks/p/k", "", WAIT))
        .shut()
        .answer();
    assert_eq!(answer.status, 200);
    raw.ends();
    let mut raw = sidecar.connect();
    raw.send(request("POST", "/v1/locks/p/k", "", WAIT))
        .shut()
        .ends();
    sidecar.eventually("nobody waits", |sidecar| sidecar.waiters("p") == 0);
}

/// Law 5: a grant that meets a caller that has left, in every order in which the event loop may see both.
#[test]
fn a_grant_that_raced_a_leaving_caller_is_given_up() {
    let sidecar = Sidecar::start();
    for _ in 0..20 {
        let first = sidecar.acquire("p/k", "{\"wait\":\"5s\"}");
        let path = format!("/v1/leases/{}", first["leaseId"].as_str().unwrap());
        let mut releases = sidecar.connect();
        let mut left = sidecar.connect();
        left.send(request("POST", "/v1/locks/p/k", "", WAIT));
        sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
        sidecar.signal("STOP");
        releases.send(request("DELETE", &path, "", ""));
        drop(left);
        sidecar.signal("CONT");
        assert_eq!(releases.answer().status, 204);
        let next = sidecar.acquire("p/k", "{\"wait\":\"1s\"}");
        let path = format!("/v1/leases/{}", next["leaseId"].as_str().unwrap());
        assert_eq!(sidecar.call("DELETE", &path, "").status, 204);
    }
}

#[test]
fn the_unix_socket_serves_the_same_whatever_host_is_named() {
    let sidecar = Sidecar::with(&[("p", POLICY)], |command| {
        let path = std::path::PathBuf::from(command.get_args().nth(1).unwrap())
            .with_file_name("pawl.sock");
        command.arg("--socket").arg(path);
    });
    let mut raw = Raw::connect_unix(&sidecar.socket());
    assert_eq!(
        raw.send("POST /v1/locks/p/k HTTP/1.1\r\nHost: pawl.internal\r\n\r\n")
            .answer()
            .status,
        200
    );
    assert_eq!(
        raw.send("GET /v1/locks/p/k HTTP/1.1\r\nHost: a b\r\n\r\n")
            .answer()
            .status,
        400
    );
    let mut waiting = Raw::connect_unix(&sidecar.socket());
    waiting.send(request("POST", "/v1/locks/p/k", "", WAIT));
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    drop(waiting);
    sidecar.eventually("it left", |sidecar| sidecar.waiters("p") == 0);
    let path = sidecar.socket();
    sidecar.signal("TERM");
    let mut sidecar = sidecar;
    assert_eq!(sidecar.process.wait().unwrap().code(), Some(0));
    assert!(!path.exists(), "the socket is removed");
}

#[test]
fn ipv6_has_the_same_port_and_status_tells_where() {
    let sidecar = Sidecar::start();
    let status = Raw::connect(sidecar.admin)
        .call("GET", "/status", "")
        .json();
    let port = sidecar.address.port();
    assert_eq!(status["addresses"][0], format!("http://127.0.0.1:{port}"));
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(status["addresses"][1], format!("http://[::1]:{port}"));
        let v6 = format!("[::1]:{port}").parse().unwrap();
        assert_eq!(Raw::connect(v6).call("GET", "/v1/locks/p", "").status, 200);
    }
}
