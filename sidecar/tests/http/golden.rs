//! What answers look like, word by word: what others parse must not change by accident.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    raw::{Answer, request},
    sidecar::{POLICY, Sidecar},
};

/// Times, tokens and ids differ each time; everything else does not.
pub(crate) fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match &**name {
                    "leaseId" => *value = "LEASE".into(),
                    "fencingToken" | "highest" if value.as_u64() > Some(1_000) => *value = 1.into(),
                    "validUntil" | "since" | "grantedAt" => *value = "TIME".into(),
                    name if name.ends_with("Ms") && name != "ttlMs" => *value = 1.into(),
                    _ => settle(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn shown(name: &str, answer: &Answer) -> String {
    let mut text = format!("## {name}\n{}\n", answer.status);
    for header in ["content-type", "allow", "www-authenticate", "connection"] {
        if let Some(value) = answer.header(header) {
            text.extend([header, ": ", value, "\n"]);
        }
    }
    if answer.header("retry-after").is_some() {
        text += "retry-after: N\n";
    }
    if !answer.body.is_empty() {
        let mut body = answer.json();
        settle(&mut body);
        text += &serde_json::to_string_pretty(&body).unwrap();
        text += "\n";
    }
    text + "\n"
}

#[test]
fn answers_are_what_they_were() {
    let guarded = format!("{POLICY}sidecar: {{auth: Token}}\n");
    let narrow = POLICY
        .replace("'**'", "'a/*'")
        .replace("keys: {", "keys: {maxHeld: 1, ");
    let sidecar = Sidecar::with(
        &[("p", POLICY), ("guarded", &guarded), ("narrow", &narrow)],
        |command| {
            let path = std::path::PathBuf::from(command.get_args().nth(1).unwrap())
                .with_file_name("token");
            command.arg("--token-file").arg(path);
        },
    );
    let mut text = String::new();
    let mut tell = |name: &str, answer: Answer| {
        text += &shown(name, &answer);
        answer
    };
    let grant = tell(
        "acquire",
        sidecar.call("POST", "/v1/locks/p/k", "{\"owner\":\"me\"}"),
    )
    .json();
    let lease = format!("/v1/leases/{}", grant["leaseId"].as_str().unwrap());
    let several = tell(
        "acquire several",
        sidecar.call("POST", "/v1/locks/p", "{\"keys\":[\"b\",\"a\"]}"),
    )
    .json();
    let several = format!("/v1/leases/{}", several["leaseId"].as_str().unwrap());
    tell("lease", sidecar.call("GET", &lease, ""));
    tell("lease of several", sidecar.call("GET", &several, ""));
    tell("renew", sidecar.call("POST", &format!("{lease}/renew"), ""));
    tell("key", sidecar.call("GET", "/v1/locks/p/k", ""));
    tell("list", sidecar.call("GET", "/v1/locks/p", ""));
    tell(
        "fence",
        sidecar.call("POST", "/v1/fences/p/f", "{\"fencingToken\":7}"),
    );
    tell(
        "stale_token",
        sidecar.call("POST", "/v1/fences/p/f", "{\"fencingToken\":6}"),
    );
    tell("held", sidecar.call("POST", "/v1/locks/p/k", ""));
    tell(
        "idempotent",
        sidecar
            .connect()
            .call_with("POST", "/v1/locks/p/i", "Idempotency-Key: i\r\n", ""),
    );
    tell(
        "idempotency_mismatch",
        sidecar
            .connect()
            .call_with("POST", "/v1/locks/p/j", "Idempotency-Key: i\r\n", ""),
    );
    tell("release", sidecar.call("DELETE", &several, ""));
    tell("lease_released", sidecar.call("DELETE", &several, ""));
    let short = sidecar.acquire("p/s", "{\"ttl\":\"200ms\",\"renew\":\"manual\"}");
    let short = format!("/v1/leases/{}", short["leaseId"].as_str().unwrap());
    sidecar.eventually("it is lost", |sidecar| {
        sidecar.call("GET", &short, "").status == 410
    });
    tell("lease_lost", sidecar.call("GET", &short, ""));
    tell("unknown_lease", sidecar.call("GET", "/v1/leases/x", ""));
    tell("unknown_policy", sidecar.call("GET", "/v1/locks/x", ""));
    tell("ambiguous_policy", sidecar.call("GET", "/v1/locks/-", ""));
    tell("unauthorized", sidecar.call("GET", "/v1/locks/guarded", ""));
    tell(
        "key_not_allowed",
        sidecar.call("POST", "/v1/locks/narrow/b", ""),
    );
    sidecar.acquire("narrow/a/1", "");
    tell(
        "limit_reached",
        sidecar.call("POST", "/v1/locks/narrow/a/2", ""),
    );
    tell("unknown_path", sidecar.call("GET", "/", ""));
    tell("method_not_allowed", sidecar.call("PUT", "/v1/locks/p", ""));
    tell("invalid_key", sidecar.call("GET", "/v1/locks/p/..", ""));
    tell(
        "invalid_parameter",
        sidecar.call("GET", "/v1/locks/p?x", ""),
    );
    tell("invalid_json", sidecar.call("POST", "/v1/locks/p/x", "{"));
    tell(
        "invalid_field",
        sidecar.call("POST", "/v1/locks/p/x", "{\"ttl\":\"1x\"}"),
    );
    tell(
        "invalid_field of the policy",
        sidecar.call("POST", "/v1/locks/p/x", "{\"ttl\":\"1h\"}"),
    );
    tell(
        "unknown_field",
        sidecar.call("POST", "/v1/locks/p/x", "{\"x\":1}"),
    );
    tell(
        "duplicate_field",
        sidecar.call("POST", "/v1/locks/p/x", "{\"ttl\":\"1s\",\"ttl\":\"1s\"}"),
    );
    let raw = |bytes: &str| sidecar.connect().send(bytes).answer();
    tell(
        "unsupported_media_type",
        raw("POST /v1/locks/p/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"),
    );
    tell(
        "malformed_request",
        raw("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    );
    tell(
        "browser_refused",
        raw(&request("GET", "/", "Origin: x\r\n", "")),
    );
    tell(
        "misdirected_request",
        raw("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
    );
    tell(
        "body_too_large",
        raw("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"),
    );
    tell("uri_too_long", raw(&format!("GET /{}", "x".repeat(9_000))));
    tell(
        "headers_too_large",
        raw(&request("GET", "/", &"A: b\r\n".repeat(70), "")),
    );
    tell(
        "expectation_failed",
        raw(&request("GET", "/", "Expect: x\r\n", "")),
    );
    tell(
        "http_version_not_supported",
        raw("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    );
    compare(&text);
}

fn compare(text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/answers.md");
    if std::env::var_os("PAWL_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (now, before)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(
            now,
            before,
            "line {} of {}; PAWL_BLESS=1 writes it anew",
            line + 1,
            path.display()
        );
    }
    assert_eq!(
        text.lines().count(),
        golden.lines().count(),
        "PAWL_BLESS=1 writes it anew"
    );
}
