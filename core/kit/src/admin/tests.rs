//! On a real socket, as a probe or a scraper sees it.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::metrics::{BuildInfo, registry};

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    server: JoinSet<()>,
}

async fn start() -> Running {
    let readiness = Readiness::new();
    let registry = registry(BuildInfo {
        component: "test",
        version: "0",
        revision: "0",
    })
    .unwrap();
    let admin = Admin::new(readiness.clone(), registry, || json!({"policies": 2}));
    let server = AdminServer::bind("127.0.0.1:0".parse().unwrap(), admin)
        .await
        .unwrap();
    let address = server.local_addr();
    assert_ne!(address.port(), 0);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(async { drop(stopped.await) }));
    Running {
        address,
        readiness,
        stop,
        server: tasks,
    }
}

impl Running {
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that closes with input left resets the connection; what came before counts.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> String {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn the_four_paths_answer() {
    let running = start().await;
    let live = running.ask("GET", "/livez").await;
    assert!(
        live.starts_with("HTTP/1.1 200 OK\r\n") && body(&live) == "ok\n",
        "{live}"
    );
    let metrics = running.ask("GET", "/metrics").await;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\npawl_build_info{component=\"test\""),
        "{metrics}"
    );
    let status = running.ask("GET", "/status?verbose=1").await;
    assert!(
        status.contains("content-type: application/json\r\n"),
        "{status}"
    );
    assert_eq!(body(&status), r#"{"policies":2}"#);

    let head = running.ask("HEAD", "/livez").await;
    assert!(
        head.contains("content-length: 3\r\n") && body(&head).is_empty(),
        "{head}"
    );
}

#[tokio::test]
async fn readiness_follows_its_latches() {
    let running = start().await;
    let latch = running.readiness.latch("policies");
    let concern = running.readiness.concern("policy/payments");
    concern.raise("no connection");
    let unready = running.ask("GET", "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
    assert!(
        body(&unready).contains(r#""waitingFor":["policies"]"#),
        "{unready}"
    );
    latch.release();
    let ready = running.ask("GET", "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    assert!(
        body(&ready).contains("no connection"),
        "ready with a reason: {ready}"
    );
    running.readiness.drain();
    assert!(
        running
            .ask("GET", "/readyz")
            .await
            .starts_with("HTTP/1.1 503 ")
    );
    assert!(
        running
            .ask("GET", "/livez")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn everything_else_is_refused() {
    let running = start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let refused = running.ask(method, "/status").await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(
            refused.contains("allow: GET, HEAD\r\n")
                && refused.contains("application/problem+json"),
            "{refused}"
        );
    }
    for path in ["/", "/v1/locks/p/k", "/livez/", "/LIVEZ", "//livez"] {
        let unknown = running.ask("GET", path).await;
        assert!(
            unknown.starts_with("HTTP/1.1 404 ") && unknown.contains(r#""code":"not_found""#),
            "{unknown}"
        );
    }
    let many = "x: y\r\n".repeat(MAX_HEADERS + 1);
    let refused = running
        .raw(&format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}\r\n"))
        .await;
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    let large = "y".repeat(MAX_HEAD_BYTES);
    let refused = running
        .raw(&format!(
            "GET /livez HTTP/1.1\r\nHost: x\r\nX: {large}\r\n\r\n"
        ))
        .await;
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    assert!(
        running
            .raw("\u{16}\u{3}\u{1} tls hello\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
}

#[tokio::test]
async fn one_request_a_connection() {
    let running = start().await;
    let twice = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    assert_eq!(running.raw(&twice).await.matches("HTTP/1.1 ").count(), 1);
}

#[tokio::test]
async fn idle_connections_cannot_keep_a_probe_out() {
    let running = start().await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS * 3 {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    let live = tokio::time::timeout(Duration::from_secs(4), running.ask("GET", "/livez")).await;
    assert!(
        live.expect("before the idle ones time out")
            .starts_with("HTTP/1.1 200 ")
    );
    let mut closed = 0;
    for stream in &mut idle {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(5), stream.read(&mut byte)).await;
        closed += usize::from(read.is_ok());
    }
    assert!(
        closed >= MAX_CONNECTIONS * 2,
        "{closed} of the oldest are closed"
    );
}

#[tokio::test]
async fn a_slow_head_is_given_up() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /livez HT").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(HEAD_TIMEOUT * 2, stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "closed by the server");
}

#[tokio::test]
async fn it_ends_when_told_also_with_connections_open() {
    let Running {
        address,
        stop,
        mut server,
        ..
    } = start().await;
    let idle = TcpStream::connect(address).await.unwrap();
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(SHUTDOWN_GRACE * 10, server.join_next()).await;
    ended.expect("in time").unwrap().unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is free"
    );
    drop(idle);
}
