//! TESTS.md 3, Body.

use std::time::Duration;

use crate::{
    raw::{Answer, Raw, request},
    sidecar::Sidecar,
};

const PATH: &str = "/v1/locks/p/k";

/// Sends a body of bytes with this Content-Type line.
fn send(sidecar: &Sidecar, content_type: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{content_type}Content-Length: {length}\r\n\r\n"
    );
    sidecar
        .connect()
        .send([head.as_bytes(), body].concat())
        .answer()
}

fn json(sidecar: &Sidecar, body: impl AsRef<[u8]>) -> (u16, String) {
    let answer = send(sidecar, "Content-Type: application/json\r\n", body.as_ref());
    (answer.status, answer.code())
}

#[test]
fn a_body_of_no_or_another_type_is_415() {
    let sidecar = Sidecar::start();
    for line in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/json; charset=latin1\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        let answer = send(&sidecar, line, b"{}");
        assert_eq!(
            (answer.status, &*answer.code()),
            (415, "unsupported_media_type"),
            "{line}"
        );
    }
    for line in [
        "Content-Type: application/json\r\n",
        "Content-Type: Application/JSON; charset=UTF-8\r\n",
    ] {
        assert!(
            matches!(send(&sidecar, line, b"{}").status, 200 | 423),
            "{line}"
        );
    }
    assert!(
        matches!(sidecar.call("POST", PATH, "").status, 200 | 423),
        "no body needs no type"
    );
}

#[test]
fn what_is_not_json_is_400() {
    let sidecar = Sidecar::start();
    for body in [
        &b"{"[..],
        b"{\"ttl\":\"1s\"",
        b"{} {}",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b"{\"owner\":\"\xff\xfe\"}",
        b"{\"owner\":\"\\ud800\"}",
        b"{\"ttl\":NaN}",
        b"{\"ttl\":Infinity}",
        b"{'ttl':'1s'}",
        b"\0",
        b" ",
    ] {
        assert_eq!(
            json(&sidecar, body),
            (400, "invalid_json".into()),
            "{body:?}"
        );
    }
}

#[test]
fn a_body_that_ends_early_is_400() {
    let sidecar = Sidecar::start();
    for body in [
        "Content-Length: 9\r\n\r\n{\"a\"",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
    ] {
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{body}"
        );
        let mut raw = sidecar.connect();
        let answer = raw.send(head).shut().answer();
        assert_eq!((answer.status, &*answer.code()), (400, "malformed_request"));
        raw.ends();
    }
}

#[test]
fn lists_and_deep_nesting_are_4xx() {
    let sidecar = Sidecar::start();
    assert_eq!(json(&sidecar, "[]"), (422, "invalid_field".into()));
    assert_eq!(json(&sidecar, "null"), (422, "invalid_field".into()));
    let nested = "[".repeat(2_000) + &"]".repeat(2_000);
    assert!(matches!(json(&sidecar, nested).0, 400 | 422));
    let nested = "{\"ttl\":".repeat(500) + "1" + &"}".repeat(500);
    assert!(matches!(json(&sidecar, nested).0, 400 | 422));
}

#[test]
fn a_ttl_that_is_refused_is_422_with_field_bound_and_example() {
    let sidecar = Sidecar::start();
    for (ttl, hint) in [
        ("\"-1s\"", "digits before each unit"),
        ("\"0s\"", "shorter than 100ms"),
        ("\"99ms\"", "shorter than 100ms"),
        ("\"6m\"", "longer than 300000ms"),
        ("\"soon\"", "digits before each unit"),
        ("\"\"", "empty"),
        ("\"1.5s\"", "unit"),
        ("10", "is a number and not a text"),
        ("null", "is null and not a text"),
        ("[\"1s\"]", "is a list and not a text"),
    ] {
        let answer = sidecar.call("POST", PATH, &format!("{{\"ttl\":{ttl}}}"));
        assert_eq!(
            (answer.status, &*answer.code()),
            (422, "invalid_field"),
            "{ttl}"
        );
        let body = answer.json();
        assert_eq!(body["field"], "ttl");
        let detail = body["detail"].as_str().unwrap();
        assert!(
            detail.contains(hint) && detail.contains("for example \"10s\""),
            "{ttl}: {detail}"
        );
    }
}

#[test]
fn a_wait_above_the_policys_maximum_is_422() {
    let sidecar = Sidecar::start();
    let answer = sidecar.call("POST", PATH, "{\"wait\":\"61s\"}");
    assert_eq!((answer.status, &*answer.code()), (422, "invalid_field"));
    let body = answer.json();
    assert_eq!(body["field"], "wait");
    assert!(
        body["detail"]
            .as_str()
            .unwrap()
            .contains("longer than 60000ms"),
        "{body}"
    );
    let answer = sidecar.call("POST", PATH, "{\"maxHold\":\"24h\"}");
    assert_eq!(answer.json()["field"], "maxHold", "{answer:?}");
}

#[test]
fn other_fields_are_checked_too() {
    let sidecar = Sidecar::start();
    for (body, field) in [
        ("{\"owner\":\"\"}", "owner"),
        ("{\"owner\":\"\u{e4}\"}", "owner"),
        ("{\"owner\":\"a\\nb\"}", "owner"),
        ("{\"owner\":7}", "owner"),
        ("{\"mode\":\"both\"}", "mode"),
        ("{\"mode\":\"EXCLUSIVE\"}", "mode"),
        ("{\"renew\":true}", "renew"),
    ] {
        let answer = sidecar.call("POST", PATH, body);
        assert_eq!(
            (answer.status, &*answer.code()),
            (422, "invalid_field"),
            "{body}"
        );
        assert_eq!(answer.json()["field"], field);
    }
    let long = format!("{{\"owner\":\"{}\"}}", "x".repeat(129));
    assert_eq!(sidecar.call("POST", PATH, &long).status, 422);
}

#[test]
fn unknown_and_duplicate_fields_are_422() {
    let sidecar = Sidecar::start();
    for (body, code, field) in [
        ("{\"tll\":\"1s\"}", "unknown_field", "tll"),
        ("{\"TTL\":\"1s\"}", "unknown_field", "TTL"),
        ("{\"keys\":[\"a\"]}", "unknown_field", "keys"),
        ("{\"\":1}", "unknown_field", ""),
        ("{\"ttl\":\"1s\",\"ttl\":\"1s\"}", "duplicate_field", "ttl"),
        (
            "{\"ttl\":\"1s\",\"\\u0074tl\":\"2s\"}",
            "duplicate_field",
            "ttl",
        ),
    ] {
        let answer = sidecar.call("POST", PATH, body);
        assert_eq!((answer.status, &*answer.code()), (422, code), "{body}");
        assert_eq!(answer.json()["field"], field);
    }
}

#[test]
fn a_body_over_4_kib_is_413_before_it_is_read() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4097\r\n\r\n"
    );
    let answer = raw.send(head).answer();
    assert_eq!((answer.status, &*answer.code()), (413, "body_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
    raw.shut().ends();
    let most = format!("{{\"owner\":\"a\"{}}}", " ".repeat(4096 - 13));
    assert_eq!(sidecar.call("POST", PATH, &most).status, 200);
    let answer = sidecar.call("POST", PATH, &(most + " "));
    assert_eq!(answer.status, 413);
}

#[test]
fn a_chunked_body_without_end_is_413_and_closed() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send(format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"));
    let chunk = format!("40\r\n{}\r\n", " ".repeat(64));
    let mut sent = 0;
    while raw.try_send(&chunk) {
        sent += chunk.len();
        assert!(sent < 64 << 20, "it reads for ever");
        if sent == 100 * chunk.len() {
            let answer = raw.answer();
            assert_eq!((answer.status, &*answer.code()), (413, "body_too_large"));
        }
    }
}

#[test]
fn a_chunked_body_is_read_and_the_next_request_too() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let body = "9\r\n{\"owner\":\r\n4\r\n\"me\"\r\n1\r\n}\r\n0\r\n\r\n";
    raw.send(head + body + &request("GET", PATH, "", ""));
    assert_eq!(raw.answer().status, 200);
    assert_eq!(raw.answer().json()["owner"], "me");
    // The same, a byte at a time.
    let head = "POST /v1/locks/p/other HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    for byte in (head.to_owned() + body).bytes() {
        raw.send([byte]);
    }
    assert_eq!(raw.answer().status, 200);
    assert_eq!(
        raw.call("GET", "/v1/locks/p/other", "").json()["owner"],
        "me"
    );
}

#[test]
fn a_body_of_a_byte_a_second_is_408() {
    let sidecar = Sidecar::start();
    for framing in [
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ] {
        let mut raw = sidecar.connect();
        raw.send(format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}"
        ));
        let mut sent = 0;
        while sent < 8 && raw.is_silent(Duration::from_secs(1)) {
            raw.try_send(" ");
            sent += 1;
        }
        assert!((4..8).contains(&sent), "closed after {sent} s");
    }
    // is_silent() took the first byte of the answer; here is the whole of it.
    let mut raw = sidecar.connect();
    raw.send(format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    ));
    let answer = raw.answer();
    assert_eq!((answer.status, &*answer.code()), (408, "request_timeout"));
    raw.shut().ends();
}

#[test]
fn a_caller_that_expects_100_is_told_to_go_on() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send(format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(raw.until(b"\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(raw.send("{}").answer().status, 200);
    let too_large = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
    );
    assert_eq!(
        sidecar.connect().send(too_large).answer().status,
        413,
        "not asked for what is refused"
    );
    let unknown = format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n");
    let answer = sidecar.connect().send(unknown).answer();
    assert_eq!(
        (answer.status, &*answer.code()),
        (417, "expectation_failed")
    );
}

#[test]
fn calls_that_take_no_body_refuse_one() {
    let sidecar = Sidecar::start();
    for (method, path) in [
        ("GET", PATH),
        ("GET", "/v1/locks/p"),
        ("DELETE", "/v1/leases/x"),
        ("GET", "/v1/leases/x"),
    ] {
        let answer = Raw::connect(sidecar.address).call(method, path, "{}");
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "malformed_request"),
            "{method} {path}"
        );
    }
}
