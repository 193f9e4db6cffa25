//! One connection: handshake, requests, end.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{MAX_STREAMS, PATIENCE, Webhook, pool::Marks};

const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// How often a silent HTTP/2 connection is asked whether it lives.
const PING: Duration = Duration::from_secs(20);
/// How often a connection that is to end is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Serves one connection. Errors are the peer's: they are told at debug level and end the connection alone.
pub(super) async fn serve(
    tls: TlsAcceptor,
    stream: TcpStream,
    webhook: Arc<Webhook>,
    marks: Marks,
) {
    let handshake = timeout(PATIENCE, tls.accept(stream));
    let stream = tokio::select! {
        () = marks.end.cancelled() => return,
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
            Err(_) => return tracing::debug!("a handshake took too long"),
        },
    };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let builder = builder(is_h2);
    let service = service_fn(|request| {
        let (webhook, busy) = (Arc::clone(&webhook), marks.begin());
        async move {
            let answer = webhook.answer(request).await;
            drop(busy);
            answer
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = marks.end.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            // It ends by itself once all is answered, unless the peer is in the middle of something that is no request yet.
            let idle = async {
                // Three looks in a row: an answer that was just given still has to be written.
                let (mut look, mut looks) = (interval(LOOK_AGAIN), 0);
                while looks < 3 {
                    look.tick().await;
                    looks = if marks.is_idle() { looks + 1 } else { 0 };
                }
            };
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = idle => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

/// By what the handshake agreed on, not by the first bytes, for which nothing would set a time.
fn builder(is_h2: bool) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams::default());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PATIENCE);
    if is_h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

/// The requests of an HTTP/2 connection, which end with it: nothing is detached.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.try_join_next().is_some() {}
        all.spawn(stream);
    }
}
