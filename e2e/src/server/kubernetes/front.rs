//! Something between clients and the API server that answers instead of it when it is told to, and counts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::KubernetesServer;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// What is answered instead of the API server's own answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// The status.
    pub status: u16,
    /// The seconds in `Retry-After`.
    pub retry_after: Option<u32>,
    /// Whether the request reaches the server all the same, so that it has its effect.
    pub is_late: bool,
}

/// A front before an API server, with the same certificate. It ends when it is dropped.
pub struct Front {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    state: Mutex<State>,
    upstream: u16,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

#[derive(Default)]
struct State {
    trouble: Option<Trouble>,
    counts: BTreeMap<String, u32>,
}

impl Front {
    /// Starts one on the runtime that this is called in.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(server: &KubernetesServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let identity = server.identity();
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("it is PEM")],
                key.expect("it is PEM"),
            )
            .expect("they belong together");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            upstream: server.port(),
            connector: TlsConnector::from(server.client_tls()),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            port,
            shared,
            _tasks: tasks,
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Answers all requests like this from now on, or lets them through.
    pub fn set(&self, trouble: Option<Trouble>) {
        self.shared.state().trouble = trouble;
    }

    /// How many requests of each method came since this was asked last; watches are `WATCH`.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.shared.state().counts)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn upstream(&self) -> Option<(SendRequest<Incoming>, JoinSet<()>)> {
        let stream = TcpStream::connect(("127.0.0.1", self.upstream))
            .await
            .ok()?;
        stream.set_nodelay(true).ok()?;
        let name = ServerName::try_from("localhost").expect("it is a name");
        let stream = self.connector.connect(name, stream).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Some((sender, driver))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = shared.acceptor.accept(stream).await else {
        return;
    };
    let Some((sender, _driver)) = shared.upstream().await else {
        return;
    };
    let sender = Arc::new(tokio::sync::Mutex::new(sender));
    let service = service_fn(|request| answer(request, Arc::clone(&shared), Arc::clone(&sender)));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    sender: Arc<tokio::sync::Mutex<SendRequest<Incoming>>>,
) -> Result<Answer, hyper::Error> {
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch="));
    let method = if is_watch {
        "WATCH"
    } else {
        request.method().as_str()
    };
    let trouble = {
        let mut state = shared.state();
        *state.counts.entry(method.to_owned()).or_default() += 1;
        state.trouble
    };
    if let Some(trouble) = trouble {
        if trouble.is_late {
            let _ = sender
                .lock()
                .await
                .send_request(request)
                .await?
                .into_body()
                .collect()
                .await;
        }
        return Ok(troubled(trouble));
    }
    let answer = sender.lock().await.send_request(request).await?;
    Ok(answer.map(BodyExt::boxed))
}

fn troubled(trouble: Trouble) -> Answer {
    let body = Full::from("in trouble, by order of a test").map_err(|never| match never {});
    let mut answer = Response::builder().status(trouble.status);
    if let Some(seconds) = trouble.retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    answer.body(body.boxed()).expect("it is a response")
}
