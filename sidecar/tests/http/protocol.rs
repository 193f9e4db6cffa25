//! TESTS.md 3, Protocol.

use std::time::Duration;

use crate::{
    raw::{Answer, Raw, request},
    sidecar::Sidecar,
};

/// What a head comes to that is sent as it is.
fn send(sidecar: &Sidecar, bytes: &str) -> (u16, String) {
    let mut raw = sidecar.connect();
    let answer = raw.send(bytes).answer();
    let code = answer.code();
    assert_eq!(answer.header("connection"), Some("close"), "{bytes:?}");
    raw.shut().ends();
    (answer.status, code)
}

fn with(lines: &str) -> String {
    format!("GET /v1/locks/p HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

#[test]
fn a_wrong_method_is_405_with_allow() {
    let sidecar = Sidecar::start();
    for (path, allowed) in [
        ("/v1/locks/p", "GET, POST"),
        ("/v1/locks/p/k", "GET, POST"),
        ("/v1/leases/x", "GET, DELETE"),
        ("/v1/leases/x/renew", "POST"),
        ("/v1/leases/x/events", "GET"),
        ("/v1/fences/p/k", "POST"),
    ] {
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW",
        ] {
            if allowed.split(", ").any(|known| known == method) {
                continue;
            }
            let answer = sidecar.call(method, path, "");
            assert_eq!(
                (answer.status, &*answer.code()),
                (405, "method_not_allowed"),
                "{method} {path}"
            );
            assert_eq!(answer.header("allow"), Some(allowed));
        }
        let mut raw = sidecar.connect();
        let head = raw.send(request("HEAD", path, "", "")).head().unwrap();
        assert_eq!((head.status, head.header("allow")), (405, Some(allowed)));
        // The answer to HEAD has no body: the next answer follows at once.
        assert_eq!(raw.call("GET", "/v1/locks/p", "").status, 200);
    }
}

#[test]
fn an_unknown_path_is_404() {
    let sidecar = Sidecar::start();
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/locks",
        "/v1/leases",
        "/v1/leases/x/",
        "/v1/leases/x/y",
        "/v2/locks/p",
        "/V1/locks/p",
        "//v1/locks/p",
        "/metrics",
        "/livez",
    ] {
        let answer = sidecar.call("GET", path, "");
        assert_eq!(
            (answer.status, &*answer.code()),
            (404, "unknown_path"),
            "{path}"
        );
    }
    let answer = sidecar.call("POST", "/v1/locks/nope/k", "");
    assert_eq!((answer.status, &*answer.code()), (404, "unknown_policy"));
    assert_eq!(answer.json()["policies"], serde_json::json!(["p"]));
    for policy in ["", "%70", "P", "../p", "p%2F"] {
        assert_eq!(
            sidecar
                .call("GET", &format!("/v1/locks/{policy}"), "")
                .status,
            404,
            "{policy}"
        );
    }
}

#[test]
fn query_parameters_are_known_or_refused() {
    let sidecar = Sidecar::start();
    for (method, path) in [
        ("GET", "/v1/locks/p?x=1"),
        ("POST", "/v1/locks/p/k?ttl=1s"),
        ("DELETE", "/v1/leases/x?confirm=yes"),
        ("DELETE", "/v1/leases/x?confirm=true&x=1"),
    ] {
        let answer = sidecar.call(method, path, "");
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "invalid_parameter"),
            "{path}"
        );
    }
    assert_eq!(sidecar.call("GET", "/v1/locks/p?", "").status, 200);
}

#[test]
fn no_foreign_or_double_host_is_answered() {
    let sidecar = Sidecar::start();
    let host = |lines: &str| {
        send(
            &sidecar,
            &format!("GET /v1/locks/p HTTP/1.1\r\n{lines}\r\n"),
        )
    };
    let malformed = (400, "malformed_request".to_owned());
    assert_eq!(host(""), malformed);
    assert_eq!(host("Host: localhost\r\nHost: localhost\r\n"), malformed);
    assert_eq!(host("Host: local host\r\n"), malformed);
    let port = sidecar.address.port();
    for foreign in [
        "example.com".to_owned(),
        format!("example.com:{port}"),
        "localhost:1".into(),
        format!("10.0.0.1:{port}"),
    ] {
        assert_eq!(
            host(&format!("Host: {foreign}\r\n")),
            (421, "misdirected_request".into()),
            "{foreign}"
        );
    }
    for ours in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
    ] {
        let bytes = format!("GET /v1/locks/p HTTP/1.1\r\nHost: {ours}\r\n\r\n");
        assert_eq!(sidecar.connect().send(bytes).answer().status, 200, "{ours}");
    }
}

#[test]
fn an_absolute_target_is_400() {
    let sidecar = Sidecar::start();
    for target in [
        "http://localhost/v1/locks/p",
        "*",
        "localhost:80",
        "v1/locks/p",
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(
            send(&sidecar, &bytes),
            (400, "malformed_request".into()),
            "{target}"
        );
    }
}

#[test]
fn browsers_are_refused() {
    let sidecar = Sidecar::start();
    for line in [
        "Origin: http://localhost\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: none\r\n",
        "ORIGIN:\r\n",
    ] {
        assert_eq!(
            send(&sidecar, &with(line)),
            (403, "browser_refused".into()),
            "{line}"
        );
    }
}

#[test]
fn two_lengths_or_a_length_beside_a_coding_are_400() {
    let sidecar = Sidecar::start();
    for lines in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1e1\r\n",
    ] {
        assert_eq!(
            send(&sidecar, &with(lines)),
            (400, "malformed_request".into()),
            "{lines:?}"
        );
    }
}

#[test]
fn too_many_or_too_long_headers_are_431() {
    let sidecar = Sidecar::start();
    let refused = (431, "headers_too_large".to_owned());
    assert_eq!(send(&sidecar, &with(&"A: b\r\n".repeat(64))), refused);
    assert_eq!(
        send(
            &sidecar,
            &with(&format!("A: {}\r\n", "x".repeat(16 * 1024)))
        ),
        refused
    );
    assert_eq!(
        sidecar
            .connect()
            .send(with(&"A: b\r\n".repeat(63)))
            .answer()
            .status,
        200
    );
    let without_end = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nA: {}",
        "x".repeat(17 * 1024)
    );
    assert_eq!(send(&sidecar, &without_end), refused);
}

#[test]
fn malformed_lines_are_400() {
    let sidecar = Sidecar::start();
    for lines in [
        "A: b\0c\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A : b\r\n",
        " A: b\r\n",
        "A: b\nC: d\r\n",
        "A: b\rC: d\r\n",
        "A: \x01\r\n",
        ": b\r\n",
        "A\r\n",
        "A(b): c\r\n",
    ] {
        assert_eq!(
            send(&sidecar, &with(lines)),
            (400, "malformed_request".into()),
            "{lines:?}"
        );
    }
    for bytes in [
        "GET /v1/locks/p HTTP/1.1\nHost: localhost\n\n",
        "GET  /v1/locks/p HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "G\u{e4}T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        assert_eq!(
            send(&sidecar, bytes),
            (400, "malformed_request".into()),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_is_not_http_1_is_closed() {
    let sidecar = Sidecar::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /v1/locks/p\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0",
        b"SSH-2.0-x\r\n",
    ] {
        sidecar.connect().send(bytes).ends();
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/3"] {
        let bytes = format!("GET /v1/locks/p {version}\r\nHost: localhost\r\n\r\n");
        assert_eq!(
            send(&sidecar, &bytes),
            (505, "http_version_not_supported".into())
        );
    }
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_otherwise() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send("GET /v1/locks/p HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(raw.answer().header("connection"), Some("keep-alive"));
    raw.send("GET /v1/locks/p HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(raw.answer().header("connection"), Some("close"));
    raw.ends();
}

#[test]
fn half_a_head_is_closed_after_5_s() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send("GET /v1/locks/p HTTP/1.1\r\nHost: loc");
    let clock = pawl_kit::clock::Clock::system();
    let start = clock.now();
    let answer = raw.answer();
    assert_eq!((answer.status, &*answer.code()), (408, "request_timeout"));
    let took = clock.now().saturating_since(start);
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(15)).contains(&took),
        "{took:?}"
    );
    raw.shut().ends();
    // A connection that says nothing is not half a head.
    assert!(sidecar.connect().is_silent(Duration::from_secs(6)));
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    let requests: String = (0..1_000)
        .map(|n| request("POST", &format!("/v1/locks/p/k{n}"), "", ""))
        .collect();
    let address = sidecar.address;
    let reader = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Raw::connect(address);
            // The same on another connection, in pieces that cut through requests.
            for piece in requests.as_bytes().chunks(37) {
                writer.send(piece);
            }
            for _ in 0..1_000 {
                assert!(matches!(writer.answer().status, 200 | 423));
            }
        });
        raw.send(&requests);
        (0..1_000).map(|_| raw.answer()).collect::<Vec<Answer>>()
    });
    for (n, answer) in reader.iter().enumerate() {
        let body = answer.json();
        assert_eq!(body["key"], format!("k{n}"), "{answer:?}");
    }
}

#[test]
fn answers_before_a_refused_request_are_sent() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send(
        request("POST", "/v1/locks/p/a", "", "")
            + &request("GET", "/v1/locks/p/a", "", "")
            + "GET / HTTP/1.1\nHost: x\n\n"
            + &request("GET", "/v1/locks/p", "", ""),
    );
    assert_eq!(raw.answer().status, 200);
    assert_eq!(raw.answer().json()["held"], true);
    assert_eq!(raw.answer().status, 400);
    raw.shut().ends();
}

#[test]
fn a_request_that_waits_is_not_passed_by_those_behind_it() {
    let sidecar = Sidecar::start();
    let lease = sidecar.acquire("p/k", "")["leaseId"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut raw = sidecar.connect();
    raw.send(
        request("POST", "/v1/locks/p/k", "", "{\"wait\":\"30s\"}")
            + &request("GET", "/v1/locks/p/other", "", ""),
    );
    sidecar.eventually("it waits", |sidecar| sidecar.waiters("p") == 1);
    assert!(raw.is_silent(Duration::from_millis(200)));
    assert_eq!(
        sidecar
            .call("DELETE", &format!("/v1/leases/{lease}"), "")
            .status,
        204
    );
    assert_eq!(raw.answer().json()["key"], "k");
    assert_eq!(raw.answer().json()["held"], false);
}

#[test]
fn an_empty_line_before_a_request_is_ignored() {
    let sidecar = Sidecar::start();
    let mut raw = sidecar.connect();
    raw.send("\r\n").send(
        request("GET", "/v1/locks/p", "", "") + "\r\n" + &request("GET", "/v1/locks/p", "", ""),
    );
    assert_eq!(raw.answer().status, 200);
    assert_eq!(raw.answer().status, 200);
    raw.send("\r\n\r\n").ends();
}

#[test]
fn answers_are_not_cached_and_dated() {
    let sidecar = Sidecar::start();
    let answer = sidecar.call("GET", "/v1/locks/p", "");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let date = answer.header("date").unwrap();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    assert_eq!(answer.header("server"), None);
}

#[test]
fn a_trace_is_named_in_problems() {
    let sidecar = Sidecar::start();
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{id}-00f067aa0ba902b7-01\r\n");
    let answer = sidecar
        .connect()
        .call_with("GET", "/v1/locks/nope", &parent, "");
    assert_eq!(answer.json()["traceId"], id);
    let twice =
        sidecar
            .connect()
            .call_with("GET", "/v1/locks/nope", &(parent.clone() + &parent), "");
    assert!(twice.json().get("traceId").is_none(), "{twice:?}");
    let answer = sidecar.call("GET", "/v1/locks/nope", "");
    assert!(answer.json().get("traceId").is_none());
}
