use proptest::prelude::*;

use super::*;

const LOOPBACK: Hosts = Hosts::Loopback { port: 4600 };

/// What the guard makes of bytes that come at once: nothing if it wants more.
fn read(bytes: &str) -> Result<Option<Head<'_>>, Reject> {
    match Scanner::default().scan(bytes.as_bytes())? {
        Some(end) => inspect(&bytes.as_bytes()[..end], LOOPBACK).map(Some),
        None => Ok(None),
    }
}

fn refused(bytes: &str) -> Reject {
    match read(bytes) {
        Err(reject) => reject,
        Ok(taken) => unreachable!("{bytes:?} was taken: {taken:?}"),
    }
}

fn with(lines: &str) -> String {
    format!("POST /v1/locks/p/a?x=1 HTTP/1.1\r\nHost: localhost:4600\r\n{lines}\r\n")
}

fn taken(lines: &str) -> Option<(Framing, bool)> {
    let bytes = with(lines);
    let head = read(&bytes).ok()??;
    Some((head.body, head.keep_alive))
}

fn malformed(bytes: &str) {
    let reject = refused(bytes);
    assert!(
        matches!(reject, Reject::Malformed(_)),
        "{bytes:?}: {reject:?}"
    );
}

#[test]
fn a_request_is_read_as_it_is() {
    let bytes = with(
        "Content-Type: a\r\nACCEPT: b\r\naccept: c\r\nIdempotency-Key:d \r\nContent-Length: 7\r\nExpect: 100-Continue\r\n",
    );
    let head = read(&bytes).unwrap().unwrap();
    assert_eq!(
        (head.method, head.path, head.query),
        ("POST", "/v1/locks/p/a", Some("x=1"))
    );
    assert_eq!(head.body, Framing::Length(7));
    assert!(head.keep_alive && head.expects_continue && !head.is_http10);
    let expected = Fields {
        content_type: Some(b"a"),
        accept: Some(b"b"),
        idempotency_key: Some(b"d"),
        ..Fields::default()
    };
    assert_eq!(head.fields, expected);
}

#[test]
fn a_head_that_has_no_end_yet_is_waited_for() {
    let bytes = with("A: b\r\n");
    for end in 0..bytes.len() {
        assert_eq!(read(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
    }
}

#[test]
fn bodies_end_in_one_way() {
    assert_eq!(taken(""), Some((Framing::Length(0), true)));
    assert_eq!(
        taken("Content-Length: 4096\r\n"),
        Some((Framing::Length(4096), true))
    );
    assert_eq!(
        taken("Transfer-Encoding: Chunked\r\n"),
        Some((Framing::Chunked, true))
    );
    for wrong in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Content-Type: a\r\nContent-Type: b\r\n",
    ] {
        malformed(&with(wrong));
    }
    for large in ["4097", "99999999999999999999999999"] {
        assert_eq!(
            refused(&with(&format!("Content-Length: {large}\r\n"))),
            Reject::BodyTooLarge
        );
    }
    assert_eq!(
        refused(&with("Content-Encoding: gzip\r\n")),
        Reject::ContentEncoding
    );
    assert_eq!(refused(&with("Expect: tea\r\n")), Reject::Expectation);
}

#[test]
fn lines_and_names_are_strict() {
    for wrong in [
        "A : b\r\n",
        "A\t: b\r\n",
        " A: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A: b\n",
        "A: b\rc\r\n",
        "A: b\0\r\n",
        "A: b\x01\r\n",
        "A: b\x7f\r\n",
        ": b\r\n",
        "A b\r\n",
        "A(: b\r\n",
        "A: b\r\r\n",
        "\u{e4}: b\r\n",
    ] {
        malformed(&with(wrong));
    }
    malformed("GET / HTTP/1.1\nHost: localhost\n\n");
    malformed("GET /\0 HTTP/1.1\r\n");
    malformed("GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    malformed("GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

#[test]
fn only_a_path_is_a_target() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for wrong in ["http://localhost/", "*", "localhost:4600", "//a#b"] {
        let reject = refused(&get(wrong));
        assert!(matches!(reject, Reject::Target(_)), "{wrong}: {reject:?}");
    }
    assert!(read(&get(&format!("/{}", "x".repeat(MAX_TARGET - 1)))).is_ok());
    assert_eq!(
        refused(&get(&format!("/{}", "x".repeat(MAX_TARGET)))),
        Reject::TargetTooLong
    );
    assert_eq!(
        refused(&format!("GET /{}", "x".repeat(9000))),
        Reject::TargetTooLong,
        "without an end"
    );
}

#[test]
fn what_is_not_http_1_is_told_apart() {
    for wrong in [
        "\x16\x03\x01\x02\0",
        "\0",
        "GET /\r\n",
        "GET / \r\n\r\n",
        "PRI * HTTP/2.0\r\n",
        "hello\r\n",
        "\r\n\r\n",
        "\x7f",
    ] {
        assert_eq!(refused(wrong), Reject::NotHttp, "{wrong:?}");
    }
    for wrong in ["HTTP/1.2", "HTTP/2.0", "HTTP/3", "HTTP/"] {
        assert_eq!(
            refused(&format!("GET / {wrong}\r\n")),
            Reject::Version,
            "{wrong}"
        );
    }
    let http10 = |lines: &str| {
        let bytes = format!("GET / HTTP/1.0\r\nHost: localhost\r\n{lines}\r\n");
        read(&bytes).map(|head| head.map(|head| (head.is_http10, head.keep_alive)))
    };
    assert_eq!(http10(""), Ok(Some((true, false))));
    assert_eq!(http10("Connection: Keep-Alive\r\n"), Ok(Some((true, true))));
    assert!(http10("Transfer-Encoding: chunked\r\n").is_err());
}

#[test]
fn the_head_is_bounded_in_bytes_and_fields() {
    let fields = |count: usize| "A: b\r\n".repeat(count);
    assert!(taken(&fields(MAX_HEADERS - 1)).is_some());
    assert_eq!(refused(&with(&fields(MAX_HEADERS))), Reject::TooManyHeaders);
    let long = |length: usize| format!("A: {}\r\n", "x".repeat(length));
    let room = MAX_HEAD - with("A: \r\n").len();
    assert!(taken(&long(room)).is_some());
    assert_eq!(refused(&with(&long(room + 1))), Reject::HeadTooLong);
    let endless = with(&long(MAX_HEAD));
    assert_eq!(
        refused(&endless[..MAX_HEAD]),
        Reject::HeadTooLong,
        "without an end"
    );
}

#[test]
fn only_our_own_host_is_answered() {
    let host = |line: &str| {
        let bytes = format!("GET / HTTP/1.1\r\n{line}\r\n");
        read(&bytes).map(|head| head.is_some())
    };
    for ours in [
        "localhost",
        "LOCALHOST:4600",
        "127.0.0.1",
        "127.0.0.1:4600",
        "[::1]",
        "[::1]:4600",
        "127.1.2.3:4600",
    ] {
        assert_eq!(host(&format!("Host: {ours}\r\n")), Ok(true), "{ours}");
    }
    for foreign in [
        "example.com",
        "example.com:4600",
        "localhost:4601",
        "localhost.example.com",
        "10.0.0.1:4600",
        "[::2]:4600",
        "127.0.0.1.nip.io",
        "localhost.",
        "pawl",
    ] {
        assert_eq!(
            host(&format!("Host: {foreign}\r\n")),
            Err(Reject::ForeignHost),
            "{foreign}"
        );
    }
    for wrong in [
        "",
        "a b",
        "localhost:",
        "localhost:x",
        "localhost:99999",
        "[::1",
        "[::1]x",
        ":4600",
        "a@b",
        "a/b",
        "localhost:4600:1",
    ] {
        let refused = host(&format!("Host: {wrong}\r\n"));
        assert!(
            matches!(refused, Err(Reject::Host(_))),
            "{wrong}: {refused:?}"
        );
    }
    assert!(matches!(host(""), Err(Reject::Host(_))));
    assert!(matches!(
        host("Host: localhost\r\nHost: localhost\r\n"),
        Err(Reject::Host(_))
    ));
    let any = b"GET / HTTP/1.1\r\nHost: some.name:1\r\n\r\n";
    assert!(inspect(any, Hosts::Any).is_ok());
    assert!(inspect(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Hosts::Any).is_err());
}

#[test]
fn browsers_are_refused() {
    assert_eq!(
        refused(&with("Origin: http://localhost:4600\r\n")),
        Reject::Browser("Origin")
    );
    assert_eq!(
        refused(&with("Origin: null\r\n")),
        Reject::Browser("Origin")
    );
    assert_eq!(
        refused(&with("sec-fetch-site: same-origin\r\n")),
        Reject::Browser("Sec-Fetch-Site")
    );
}

#[test]
fn a_connection_ends_when_either_side_says_so() {
    for (line, keeps) in [
        ("", true),
        ("Connection: close\r\n", false),
        ("Connection: x, CLOSE\r\n", false),
        ("Connection: upgrade\r\n", true),
    ] {
        assert_eq!(
            taken(line).map(|(_, keep_alive)| keep_alive),
            Some(keeps),
            "{line}"
        );
    }
}

/// Bytes that look like a head, with faults.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 23] = [
        b"GET ",
        b"POST ",
        b"/v1/locks/p/k",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\r\n\r\n",
        b"Host: localhost",
        b"Host",
        b": ",
        b"Content-Length: 1",
        b"Transfer-Encoding: chunked",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\0",
        b"\xff",
        b"x",
        b"Connection: close",
        b"Origin: a",
        b"?",
        b"%00",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// However the bytes come, the verdict is the same, and nothing panics.
    #[test]
    fn pieces_do_not_matter(bytes in nearly_a_head(), piece in 1_usize..40) {
        let whole = Scanner::default().scan(&bytes);
        let mut scanner = Scanner::default();
        let mut verdict = Ok(None);
        for end in (0..=bytes.len()).step_by(piece).chain([bytes.len()]) {
            verdict = scanner.scan(&bytes[..end]);
            if verdict != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(verdict, whole);
    }

    /// A head that is taken is not ambiguous: one host, one framing, no control byte, lines that end with CR LF.
    #[test]
    fn what_is_taken_is_unambiguous(bytes in nearly_a_head()) {
        if let Ok(Some(end)) = Scanner::default().scan(&bytes)
            && let Ok(head) = inspect(&bytes[..end], LOOPBACK)
        {
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            prop_assert!(text.ends_with("\r\n\r\n"));
            prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
            prop_assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
            let lines: Vec<&str> = text.split("\r\n").skip(1).collect();
            let count = |name: &str| lines.iter().filter(|line| line.to_lowercase().starts_with(name)).count();
            prop_assert_eq!(count("host:"), 1);
            prop_assert!(count("content-length:") + count("transfer-encoding:") <= 1);
            prop_assert_eq!(count("transfer-encoding:") == 1, head.body == Framing::Chunked);
            prop_assert!(!text.contains('\0'));
            prop_assert!(head.path.starts_with('/'));
        }
    }

    #[test]
    fn any_bytes_get_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(end)) = Scanner::default().scan(&bytes) {
            let _ = inspect(&bytes[..end], LOOPBACK);
        }
        let _ = inspect(&bytes, Hosts::Any);
    }
}
