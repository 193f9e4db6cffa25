//! The admin server: `/livez`, `/readyz`, `/metrics`, `/status`. It only ever answers questions; there is no lock
//! action here, so that it may listen on every address of the pod.
//!
//! # Bounds
//! HTTP/1.1 without keep-alive: one request a connection. At most [`MAX_CONNECTIONS`]; one more closes the oldest, so
//! that idle connections cannot keep the kubelet's probes out. A request head has five seconds and 16 KiB, a
//! connection lives ten seconds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

mod answer;
mod readiness;

pub use readiness::{Concern, Latch, Readiness};

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 64;

const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_LIFE: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What running answers have left when the server is told to end.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(200);

/// How long to wait when the system has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What `/status` shows. Called on the event loop for each request: it must not block. A closure will do.
pub trait StatusSource: Send + Sync + 'static {
    /// The state as JSON, without secrets and lease handles.
    fn status(&self) -> Value;
}

impl<F: Fn() -> Value + Send + Sync + 'static> StatusSource for F {
    fn status(&self) -> Value {
        self()
    }
}

/// What the admin server tells. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    readiness: Readiness,
    registry: Registry,
    status: Arc<dyn StatusSource>,
}

impl Admin {
    /// An admin interface of these three.
    pub fn new(readiness: Readiness, registry: Registry, status: impl StatusSource) -> Self {
        Self {
            readiness,
            registry,
            status: Arc::new(status),
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

/// A bound admin server: the port is taken, nothing is answered before [`AdminServer::run`].
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    admin: Admin,
}

impl AdminServer {
    /// Takes the port; 0 lets the system choose one, see [`AdminServer::local_addr`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, admin: Admin) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            admin,
        })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done, then gives running answers 200 ms. Leaves no task behind. It is meant to be
    /// ended last, so that probes and scrapes are answered while the daemon drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let mut oldest_first: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    if oldest_first.len() >= MAX_CONNECTIONS {
                        oldest_first.retain(|connection| !connection.is_finished());
                    }
                    if oldest_first.len() >= MAX_CONNECTIONS
                        && let Some(oldest) = oldest_first.pop_front()
                    {
                        oldest.abort();
                    }
                    oldest_first.push_back(connections.spawn(serve(stream, self.admin.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin server cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Whatever is left after the time is aborted and waited for below.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, ended).await;
        connections.shutdown().await;
    }
}

/// One connection. Errors are the peer's: they are told at debug level and end the connection alone.
async fn serve(stream: TcpStream, admin: Admin) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = admin.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}

#[cfg(test)]
mod tests;
