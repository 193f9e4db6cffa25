//! TESTS.md 3, Key.

use crate::{
    raw::request,
    sidecar::{POLICY, Sidecar},
};

#[test]
fn a_key_with_slashes_is_one_key_however_it_is_written() {
    let sidecar = Sidecar::start();
    let grant = sidecar.acquire("p/account/42", "");
    assert_eq!(grant["key"], "account/42");
    for path in ["account%2F42", "account%2f42", "%61ccount/42"] {
        let answer = sidecar.call("POST", &format!("/v1/locks/p/{path}"), "");
        assert_eq!((answer.status, &*answer.code()), (423, "held"), "{path}");
        assert_eq!(
            sidecar
                .call("GET", &format!("/v1/locks/p/{path}"), "")
                .json()["held"],
            true
        );
    }
}

#[test]
fn what_is_no_key_is_400() {
    let sidecar = Sidecar::start();
    let long = "x".repeat(254);
    for key in [
        "",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "/a",
        "%2e",
        "%2e%2e",
        "a%2F..%2Fb",
        "%252e",
        "%00",
        "a%00b",
        "%0d%0a",
        "a%0Ab",
        "%zz",
        "%",
        "%f",
        "%ff",
        "%c3%28",
        "%C3%A4",
        "{a}",
        "%7Ba%7D",
        "*",
        "a*",
        "%22",
        "'",
        "\"",
        "a%20b",
        "a+b",
        "a,b",
        "a;b",
        "a=b",
        "$a",
        "!",
        "(a)",
        "[a]",
        "<a>",
        "a|b",
        "a\\b",
        "~a",
        "^",
        "`",
        &long,
    ] {
        for (method, path) in [
            ("POST", "/v1/locks/p/"),
            ("GET", "/v1/locks/p/"),
            ("POST", "/v1/fences/p/"),
        ] {
            let body = if path.contains("fences") {
                "{\"fencingToken\":1}"
            } else {
                ""
            };
            let answer = sidecar.call(method, &format!("{path}{key}"), body);
            assert_eq!(
                (answer.status, &*answer.code()),
                (400, "invalid_key"),
                "{method} {path}{key}"
            );
        }
    }
    assert_eq!(
        sidecar.acquire(&format!("p/{}", "x".repeat(253)), "")["fencingToken"]
            .as_u64()
            .map(|token| token > 0),
        Some(true)
    );
}

#[test]
fn raw_control_bytes_in_a_path_are_400() {
    let sidecar = Sidecar::start();
    for key in ["a\0b", "a\x01", "a\x7f", "a\tb", "a b", "\u{e4}"] {
        let answer = sidecar
            .connect()
            .send(request("POST", &format!("/v1/locks/p/{key}"), "", ""))
            .answer();
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "malformed_request"),
            "{key:?}"
        );
    }
}

#[test]
fn a_target_over_8_kib_is_414() {
    let sidecar = Sidecar::start();
    let answer = sidecar.call("GET", &format!("/{}", "x".repeat(8 * 1024)), "");
    assert_eq!((answer.status, &*answer.code()), (414, "uri_too_long"));
    let without_end = format!("GET /{}", "x".repeat(9 * 1024));
    let answer = sidecar.connect().send(without_end).answer();
    assert_eq!((answer.status, &*answer.code()), (414, "uri_too_long"));
    let answer = sidecar.call("GET", &format!("/{}", "x".repeat(8 * 1024 - 1)), "");
    assert_eq!((answer.status, &*answer.code()), (404, "unknown_path"));
}

#[test]
fn a_key_that_the_policy_does_not_allow_is_403() {
    let policy = POLICY.replace("'**'", "'account/*'");
    let sidecar = Sidecar::with(&[("p", &policy)], |_| ());
    assert_eq!(
        sidecar.call("POST", "/v1/locks/p/account/1", "").status,
        200
    );
    let answer = sidecar.call("POST", "/v1/locks/p/order/1", "");
    assert_eq!((answer.status, &*answer.code()), (403, "key_not_allowed"));
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("account/*"),
        "{answer:?}"
    );
}
