//! Over real sockets, with a certificate of its own.

use std::net::SocketAddr;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
    server::ResolvesServerCertUsingSni,
    sign::CertifiedKey,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::inject::fixtures::{config, minimal, review_of};

const NAME: &str = "pawl-webhook.pawl.svc";

struct Server {
    address: SocketAddr,
    roots: RootCertStore,
    registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<()>,
}

impl Server {
    async fn start(most: usize) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let key = rustls::crypto::ring::sign::any_supported_type(&key.into()).unwrap();
        let mut resolver = ResolvesServerCertUsingSni::new();
        let certified = CertifiedKey::new(vec![made.cert.der().clone()], key);
        resolver.add(NAME, certified).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let registry = Registry::new();
        let mut webhook = Webhook::new(config(), &registry).unwrap();
        webhook.most = most;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        let tls = server_config(Arc::new(resolver));
        task.spawn(webhook.serve(listener, tls, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            roots,
            registry,
            stop: Some(stop),
            task,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_with(&[b"http/1.1"]).await
    }

    async fn connect_with(&self, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let mut tls = ClientConfig::builder_with_provider(pawl_kit::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        connector.connect(name, stream).await.unwrap()
    }

    /// One request on a connection of its own; the status and the body.
    async fn call(&self, head: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = self.connect().await;
        let length = body.len();
        let head = format!(
            "{head}\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The answer may come before all of the body was taken.
        let _ = stream.write_all(body).await;
        answer(&mut stream).await
    }

    fn counted(&self, result: &str) -> u64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|f| f.name() == crate::inject::METRIC)
            .unwrap();
        let metrics = family.get_metric().iter();
        let mut found = metrics.filter(|m| m.get_label()[0].value() == result);
        let value = found.next().unwrap().get_counter().get_value();
        value.to_string().parse().unwrap()
    }

    async fn end(&mut self) {
        self.stop.take();
        while self.task.join_next().await.is_some() {}
    }
}

/// Reads to the end, however the peer ends it.
async fn answer(stream: &mut TlsStream<TcpStream>) -> (u16, Value) {
    let mut out = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        out.extend_from_slice(&chunk[..read]);
    }
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

const POST: &str = "POST /inject?timeout=5s HTTP/1.1\r\nContent-Type: application/json";

fn good() -> Vec<u8> {
    review_of(&minimal()).to_string().into_bytes()
}

async fn is_closed(stream: &mut TlsStream<TcpStream>) -> bool {
    !matches!(stream.read(&mut [0; 16]).await, Ok(1..))
}

#[tokio::test]
async fn reviews_are_answered_and_counted() {
    let mut server = Server::start(8).await;
    let (status, body) = server.call(POST, &good()).await;
    assert_eq!((status, &body["response"]["allowed"]), (200, &json!(true)));
    let mut denied = minimal();
    denied["metadata"]["annotations"]["pawl.dev/port"] = "0".into();
    let denied = review_of(&denied).to_string();
    let (status, body) = server.call(POST, denied.as_bytes()).await;
    assert_eq!((status, &body["response"]["allowed"]), (200, &json!(false)));
    assert_eq!(
        (server.counted("patched"), server.counted("denied")),
        (1, 1)
    );
    server.end().await;
}

#[tokio::test]
async fn what_is_no_review_has_a_status_and_a_problem() {
    let mut server = Server::start(8).await;
    let large = vec![b' '; MAX_BODY_BYTES + 1];
    let text = "POST /inject HTTP/1.1\r\nContent-Type: text/plain";
    for (head, body, status, code) in [
        (POST, &b"{"[..], 400, "invalid_review"),
        (POST, b"{}", 400, "invalid_review"),
        (POST, &large, 413, "body_too_large"),
        (text, b"{}", 415, "unsupported_media_type"),
        (
            "POST /inject HTTP/1.1",
            b"{}",
            415,
            "unsupported_media_type",
        ),
        ("GET /inject HTTP/1.1", b"", 405, "method_not_allowed"),
        ("POST / HTTP/1.1", b"", 404, "not_found"),
        ("GET /livez HTTP/1.1", b"", 404, "not_found"),
    ] {
        let (told, problem) = server.call(head, body).await;
        assert_eq!((told, &problem["code"]), (status, &json!(code)), "{head}");
    }
    assert_eq!(server.counted("invalid"), 5);
    server.end().await;
}

#[tokio::test]
async fn an_endless_body_is_cut_at_its_bound() {
    let mut server = Server::start(8).await;
    let mut stream = server.connect().await;
    let head = format!("{POST}\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut sent = 0;
    while sent < 4 * MAX_BODY_BYTES && stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 0x10000;
    }
    let (status, _) = answer(&mut stream).await;
    // The answer is lost when the rest of the body meets a closed socket.
    assert!(status == 413 || status == 0, "{status}");
    while server.counted("invalid") < 1 {
        tokio::task::yield_now().await;
    }
    server.end().await;
}

#[tokio::test]
async fn http2_is_spoken_when_it_is_agreed_on() {
    let mut server = Server::start(8).await;
    let stream = server.connect_with(&[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, driver) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    for _ in 0..3 {
        let request = Request::post(format!("https://{NAME}/inject"))
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(Full::new(Bytes::from(good())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(server.counted("patched"), 3);
    server.end().await;
}

#[tokio::test]
async fn who_is_slow_is_told_or_closed() {
    let mut server = Server::start(8).await;
    let mut body = server.connect().await;
    let mut head = server.connect().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut one = [0; 1];
    let start = format!("{POST}\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
    body.write_all(start.as_bytes()).await.unwrap();
    head.write_all(b"POST /inject HTTP/1.1\r\n").await.unwrap();
    let (told, closed, unshaken) = timeout(PATIENCE * 3, async {
        tokio::join!(answer(&mut body), answer(&mut head), silent.read(&mut one))
    })
    .await
    .expect("all three end by themselves");
    assert_eq!((told.0, &told.1["code"]), (408, &json!("body_timeout")));
    assert!(closed.0 == 408 || closed.0 == 0, "{}", closed.0);
    assert!(!matches!(unshaken, Ok(1..)));
    server.end().await;
}

#[tokio::test]
async fn the_oldest_idle_connection_makes_room_and_a_busy_one_stays() {
    let mut server = Server::start(2).await;
    let mut busy = server.connect().await;
    let review = good();
    let head = format!(
        "{POST}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        review.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    busy.write_all(&review[..10]).await.unwrap();
    let mut idle = server.connect().await;
    // The third gets in, since the second is idle.
    let (status, _) = timeout(PATIENCE, server.call(POST, &review)).await.unwrap();
    assert_eq!(status, 200);
    assert!(is_closed(&mut idle).await);
    busy.write_all(&review[10..]).await.unwrap();
    assert_eq!(answer(&mut busy).await.0, 200);
    server.end().await;
}

#[tokio::test]
async fn reviews_that_are_under_way_are_answered_at_the_end() {
    let mut server = Server::start(8).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    let review = good();
    let head = format!(
        "{POST}\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        review.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    busy.write_all(&review[..10]).await.unwrap();
    // The first request on a second connection shows that the server has seen what came before it.
    assert_eq!(server.call(POST, &review).await.0, 200);
    server.stop.take();
    assert!(is_closed(&mut idle).await);
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    busy.write_all(&review[10..]).await.unwrap();
    let (status, body) = answer(&mut busy).await;
    assert_eq!((status, &body["response"]["allowed"]), (200, &json!(true)));
    timeout(PATIENCE, server.end())
        .await
        .expect("nothing is left");
}

#[tokio::test]
async fn a_review_that_does_not_end_does_not_hold_up_the_end() {
    let mut server = Server::start(8).await;
    let mut stuck = server.connect().await;
    let head = format!("{POST}\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
    stuck.write_all(head.as_bytes()).await.unwrap();
    timeout(LAST_WORDS * 2, server.end())
        .await
        .expect("it is bounded");
    assert!(is_closed(&mut stuck).await);
}
