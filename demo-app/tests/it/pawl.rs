//! The client of the sidecar, against answers that are written out byte by byte.

use std::time::Duration;

use pawl_demo::clock;
use pawl_demo::pawl::{Event, Pawl, PawlError, Terms};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::support::{Bank, books};

/// A server that gives each connection the next answer, after `delay`, and closes it. Returns what it was asked.
struct Script {
    address: String,
    asked: JoinSet<Vec<String>>,
}

impl Script {
    async fn of(delay: Duration, answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mut asked = JoinSet::new();
        asked.spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (socket, _) = listener.accept().await.unwrap();
                requests.push(once(socket, delay, &answer).await);
            }
            requests
        });
        Self { address, asked }
    }

    fn pawl(&self) -> Pawl {
        Pawl::new(&self.address, "accounts").unwrap()
    }

    async fn asked(mut self) -> Vec<String> {
        self.asked.join_next().await.unwrap().unwrap()
    }
}

async fn once(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    delay: Duration,
    answer: &str,
) -> String {
    let mut request = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let n = socket.read(&mut bytes).await.unwrap();
        request.extend_from_slice(&bytes[..n]);
        let text = String::from_utf8_lossy(&request);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|l| {
                l.to_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            body.len() >= length.map_or(0, |l| l.parse().unwrap())
        });
        if whole || n == 0 {
            break;
        }
    }
    tokio::time::sleep(delay).await;
    socket.write_all(answer.as_bytes()).await.unwrap();
    socket.shutdown().await.ok();
    String::from_utf8(request).unwrap()
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn grant(waited_ms: u64, expires_in_ms: u64) -> String {
    let body = json!({"leaseId": "l1", "policy": "accounts", "key": "account/ann", "fencingToken": 42, "mode": "exclusive",
                      "ttlMs": 10_000, "expiresInMs": expires_in_ms, "validUntil": "2026-01-01T00:00:00Z", "waitedMs": waited_ms});
    http("200 OK", &body.to_string())
}

const KEY: &[&str] = &["account/ann"];

#[tokio::test]
async fn a_lease_ends_by_our_clock_counted_from_before_the_request() {
    let delay = Duration::from_millis(300);
    let script = Script::of(delay, vec![grant(100, 250)]).await;
    let before = clock::now();
    let lease = script.pawl().acquire(KEY, &Terms::default()).await.unwrap();
    assert_eq!(
        (lease.token(), lease.waited),
        (42, Duration::from_millis(100))
    );
    let life = lease.deadline.since(before);
    assert!(
        life >= Duration::from_millis(350) && life < Duration::from_millis(400),
        "{life:?}"
    );
    tokio::time::sleep(lease.deadline.left()).await;
    assert!(!lease.is_held());
}

#[tokio::test]
async fn a_lease_that_is_over_when_its_grant_arrives_is_not_held() {
    let script = Script::of(Duration::from_millis(120), vec![grant(0, 100)]).await;
    let lease = script.pawl().acquire(KEY, &Terms::default()).await.unwrap();
    assert!(!lease.is_held());
}

#[tokio::test]
async fn no_answer_is_no_grant() {
    for half in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"leaseId\":\"l1\",",
        "HTTP/1.1 200 OK\r\n",
    ] {
        let script = Script::of(Duration::ZERO, vec![half.to_owned()]).await;
        let refused = script
            .pawl()
            .acquire(KEY, &Terms::default())
            .await
            .unwrap_err();
        assert!(
            matches!(refused, PawlError::Unknown(_)),
            "{half:?}: {refused:?}"
        );
    }
    let nobody = Pawl::new("http://127.0.0.1:1", "accounts").unwrap();
    assert!(matches!(
        nobody.acquire(KEY, &Terms::default()).await,
        Err(PawlError::Unknown(_))
    ));
    for strange in [
        "{}",
        "hello",
        r#"{"leaseId":"l1","key":"account/ann","fencingToken":1}"#,
    ] {
        let script = Script::of(Duration::ZERO, vec![http("200 OK", strange)]).await;
        let refused = script
            .pawl()
            .acquire(KEY, &Terms::default())
            .await
            .unwrap_err();
        assert!(
            matches!(refused, PawlError::Strange(_)),
            "{strange}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_release_tells_that_the_lock_had_been_lost() {
    let lost = http(
        "410 Gone",
        r#"{"code":"lease_lost","detail":"it is over","reason":"expired"}"#,
    );
    let script = Script::of(Duration::ZERO, vec![grant(0, 10_000), lost]).await;
    let pawl = script.pawl();
    let lease = pawl.acquire(KEY, &Terms::default()).await.unwrap();
    let told = pawl.release(&lease).await.unwrap_err();
    assert!(
        matches!(&told, PawlError::Lost { reason } if reason == "expired"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_release_without_an_answer_is_asked_again_with_the_same_idempotency_key() {
    let script = Script::of(
        Duration::ZERO,
        vec![grant(0, 10_000), String::new(), http("204 No Content", "")],
    )
    .await;
    let pawl = script.pawl();
    let lease = pawl.acquire(KEY, &Terms::default()).await.unwrap();
    pawl.release(&lease).await.unwrap();
    let asked = script.asked().await;
    let key = |request: &str| {
        request
            .lines()
            .find(|l| l.starts_with("idempotency-key"))
            .unwrap()
            .to_owned()
    };
    assert!(
        asked[1].starts_with("DELETE /v1/leases/l1 HTTP/1.1\r\n"),
        "{}",
        asked[1]
    );
    assert_eq!(key(&asked[1]), key(&asked[2]));
}

#[tokio::test]
async fn what_is_asked_is_what_the_api_takes() {
    let script = Script::of(
        Duration::ZERO,
        vec![grant(0, 9000), http("200 OK", r#"{"expiresInMs":9000}"#)],
    )
    .await;
    let pawl = script.pawl();
    let terms = Terms {
        ttl: Some(Duration::from_secs(9)),
        wait: Some(Duration::from_millis(1500)),
        owner: Some("till 1".to_owned()),
        auto_renew: Some(false),
    };
    let mut lease = pawl.acquire(KEY, &terms).await.unwrap();
    let first = lease.deadline;
    tokio::time::sleep(Duration::from_millis(20)).await;
    pawl.renew(&mut lease).await.unwrap();
    assert!(lease.deadline > first);
    let asked = script.asked().await;
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/locks/accounts/account/ann HTTP/1.1\r\n"),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        json!({"ttl": "9s", "wait": "1500ms", "owner": "till 1", "renew": "manual"})
    );
    assert!(asked[1].starts_with("POST /v1/leases/l1/renew HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_token_is_shown_where_there_is_a_file_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let script = Script::of(Duration::ZERO, vec![grant(0, 9000), grant(0, 9000)]).await;
    let pawl = script.pawl().with_token_file(Some(file.clone()));
    pawl.acquire(KEY, &Terms::default()).await.unwrap();
    std::fs::write(&file, "0123abcd\n").unwrap();
    pawl.acquire(KEY, &Terms::default()).await.unwrap();
    let asked = script.asked().await;
    assert!(!asked[0].contains("authorization"), "{}", asked[0]);
    assert!(
        asked[1].contains("authorization: Bearer 0123abcd\r\n"),
        "{}",
        asked[1]
    );
}

#[tokio::test]
async fn a_stream_tells_what_becomes_of_the_lock() {
    let events = ": hello\n\nevent: queued\ndata: {\"position\":2}\n\nevent: granted\ndata: {\"fencingToken\":7}\n\nevent: lost\ndata: {}\n\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}"
    );
    let held = http(
        "423 Locked",
        r#"{"code":"held","detail":"x","holder":"till 2","retryAfterMs":70}"#,
    );
    let script = Script::of(Duration::ZERO, vec![answer, held]).await;
    let pawl = script.pawl();
    let mut stream = pawl.stream("account/ann", &Terms::default()).await.unwrap();
    let queued = stream.next().await.unwrap();
    assert_eq!(
        queued,
        Event {
            name: "queued".to_owned(),
            data: json!({"position": 2})
        }
    );
    assert_eq!(stream.granted().await.unwrap()["fencingToken"], 7);
    assert_eq!(stream.next().await.unwrap().name, "lost");
    assert_eq!(stream.next().await, None);
    let refused = pawl
        .stream("account/ann", &Terms::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, PawlError::Held { holder, .. } if holder == "till 2"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pawl.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let pawl = Pawl::new(&format!("unix:{}", path.display()), "accounts").unwrap();
    let terms = Terms::default();
    let (lease, request) = tokio::join!(pawl.acquire(KEY, &terms), async {
        let (socket, _) = listener.accept().await.unwrap();
        once(socket, Duration::ZERO, &grant(0, 1000)).await
    });
    assert_eq!(lease.unwrap().token(), 42);
    assert!(request.contains("host: localhost\r\n"), "{request}");
}

#[tokio::test]
async fn the_bank_maps_a_sidecars_refusal_to_something_its_own_caller_understands() {
    let problem = |code: &str| format!(r#"{{"code":"{code}","detail":"no","retryAfterMs":1500}}"#);
    for (answer, status, code, retry_after) in [
        (
            http("423 Locked", &problem("held")),
            503,
            "lock_held",
            Some("2"),
        ),
        (
            http("429 Too Many Requests", &problem("limit")),
            503,
            "lock_unavailable",
            Some("2"),
        ),
        (
            http("503 Service Unavailable", &problem("backend")),
            503,
            "lock_unavailable",
            Some("2"),
        ),
        (String::new(), 503, "lock_unavailable", Some("1")),
        (
            http("422 Unprocessable Entity", &problem("invalid")),
            502,
            "lock_failed",
            None,
        ),
        (http("200 OK", "{}"), 502, "lock_failed", None),
        (grant(0, 0), 503, "lock_lost", Some("1")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (sidecar, _serving) = always(answer.clone()).await;
        let bank = Bank::start(
            &books(dir.path()),
            &[
                "--sidecar",
                &sidecar,
                "--policy",
                "accounts",
                "--think",
                "0s",
            ],
        )
        .await;
        bank.post(
            "/api/balance/init",
            json!({"userId": "ann", "balance": 100}),
        )
        .await;
        let told = bank
            .raw(
                hyper::Method::POST,
                "/api/deduct",
                r#"{"userId":"ann","amount":10}"#,
                &[],
            )
            .await;
        let problem: serde_json::Value = serde_json::from_slice(told.body()).unwrap();
        assert_eq!(
            (told.status().as_u16(), problem["code"].as_str()),
            (status, Some(code)),
            "{answer}"
        );
        assert_eq!(
            told.headers()
                .get("retry-after")
                .map(|v| v.to_str().unwrap()),
            retry_after,
            "{answer}"
        );
        assert_eq!(
            bank.get("/api/balance/ann").await.1["balance"],
            100,
            "nothing was written"
        );
    }
}

/// A server that gives the same answer to every request, also to those of the replica's report.
async fn always(answer: String) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            connections.spawn(async move { once(socket, Duration::ZERO, &answer).await });
        }
    });
    (address, serving)
}
