//! Connections: how many, for how long, and how they end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{MAX_CONNECTIONS, READ_LIMIT};
use super::problem::BankError;
use super::{Bank, route};

/// How long requests that were begun may go on once the bank is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stop`, then lets what was begun end within [`GRACE`].
pub(super) async fn serve(listener: TcpListener, bank: Arc<Bank>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    // Requests run here and not in their connection, so that a caller who leaves does not
    // break one off between its lock and its release.
    let requests = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Some((socket, permit)) => {
                let (bank, requests, stop) = (bank.clone(), requests.clone(), stop.clone());
                connections.spawn(async move {
                    connection(socket, bank, requests, stop).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, most likely: wait for some to be closed instead of spinning.
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    requests.close();
    let ended = async {
        while connections.join_next().await.is_some() {}
        requests.wait().await;
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("requests were broken off");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, _)) => Some((socket, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            None
        }
    }
}

async fn connection(
    socket: TcpStream,
    bank: Arc<Bank>,
    requests: TaskTracker,
    stop: CancellationToken,
) {
    // Only latency is lost when this fails.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| handle(bank.clone(), requests.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_LIMIT)
        .max_headers(64)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(socket), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn handle(
    bank: Arc<Bank>,
    requests: TaskTracker,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = requests.spawn(route::answer(bank, request)).await;
    Ok(answer.unwrap_or_else(|_| BankError::BrokenOff.response()))
}
