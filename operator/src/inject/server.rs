//! The HTTPS server of the webhook.
//!
//! # Bounds
//! [`MAX_CONNECTIONS`] at a time: one more ends the one that has been there longest without a request under way, and
//! waits while there is none. A handshake, a head and a body have [`PATIENCE`] each, a body [`MAX_BODY_BYTES`], a connection
//! [`MAX_STREAMS`] requests at a time.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use pawl_kit::problem::Problem;
use prometheus::Registry;
use rustls::{ServerConfig, server::ResolvesServerCert};
use serde_json::Value;
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    Config, PATH,
    metrics::{Metrics, Outcome},
    recall::Recall,
    review::{ReviewError, review},
};

mod connection;
mod pool;

use pool::Pool;

/// Connections at a time. An API server keeps a few.
pub const MAX_CONNECTIONS: usize = 256;
/// The largest body, in bytes: what an API server may send of the largest pod, the old one beside it.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Requests of one connection at a time.
const MAX_STREAMS: u32 = 128;
/// What a handshake, a head and a body have.
const PATIENCE: Duration = Duration::from_secs(5);
/// What reviews that are under way have at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long nothing is accepted when the system has no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the webhook speaks TLS: 1.2 and 1.3 with ring, HTTP/2 before HTTP/1.1, certificates by `resolver`, none asked for.
pub fn server_config(resolver: Arc<dyn ResolvesServerCert>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(pawl_kit::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The webhook.
#[derive(Debug)]
pub struct Webhook {
    config: Config,
    metrics: Metrics,
    most: usize,
}

impl Webhook {
    /// Registers what it counts.
    ///
    /// # Errors
    /// When the registry has a metric of that name already.
    pub fn new(config: Config, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            config,
            metrics: Metrics::register(registry)?,
            most: MAX_CONNECTIONS,
        })
    }

    /// Serves until `shutdown` is done; then takes nothing new, and gives reviews that are under way five seconds.
    /// Leaves no task behind, also when it is dropped.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut pool = Pool::new(self.most);
        let (tls, webhook) = (TlsAcceptor::from(tls), Arc::new(self));
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = async {
                    let accepted = listener.accept().await;
                    pool.room().await;
                    accepted
                } => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Without it answers wait for acknowledgements; it works all the same.
                    let _ = stream.set_nodelay(true);
                    let (tls, webhook) = (tls.clone(), Arc::clone(&webhook));
                    pool.add(|marks| connection::serve(tls, stream, webhook, marks));
                }
                Err(error) => {
                    tracing::warn!(%error, "the webhook cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        pool.drain(LAST_WORDS).await;
    }

    /// Reviews; a second time if a policy that was not known turned up.
    async fn review(&self, body: &[u8]) -> Result<(Value, Outcome), ReviewError> {
        let recall = Arc::new(Recall::new(Arc::clone(&self.config.policies)));
        let config = Config {
            policies: recall.clone(),
            ..self.config.clone()
        };
        let reviewed = review(&config, body);
        if recall.ask().await {
            review(&config, body)
        } else {
            reviewed
        }
    }

    /// Never fails: whatever is wrong is an answer.
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.uri().path() != PATH {
            let title = "There is nothing here";
            let problem = Problem::new(StatusCode::NOT_FOUND, "not_found", title);
            return Ok(problem.to_response());
        }
        if request.method() != Method::POST {
            let title = "Only POST is served here";
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title);
            let mut response = problem.to_response();
            let headers: &mut HeaderMap = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
            return Ok(response);
        }
        let answered = match read(request).await {
            Ok(body) => self.review(&body).await.map_err(|error| error.problem()),
            Err(problem) => Err(problem),
        };
        let (response, outcome) = match answered {
            Ok((answer, outcome)) => {
                let mut response = Response::new(Full::from(answer.to_string()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                (response, outcome)
            }
            Err(problem) => {
                tracing::debug!(?problem, "a request was no review");
                (problem.to_response(), Outcome::Invalid)
            }
        };
        self.metrics.count(outcome);
        Ok(response)
    }
}

/// The body, if it is JSON of a bounded size that comes in time.
async fn read(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let media_type = request.headers().get(CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next());
    if !media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json")) {
        let title = "The body must be application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "unsupported_media_type", title));
    }
    let too_large = || {
        let title = "The body is larger than 3 MiB";
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", title)
    };
    if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            let title = "The body ended early";
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "body_incomplete",
                title,
            ))
        }
        Err(_) => {
            let title = "The body did not come in time";
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                title,
            ))
        }
    }
}

#[cfg(test)]
mod tests;
