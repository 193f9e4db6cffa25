//! Asks a sidecar's admin server for its `/status`.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The longest that one question takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer, in bytes: a sidecar serves 16 policies at most.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Asks. Follows no redirect, keeps no connection, since the admin server does not either. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Fetch(Client<HttpConnector, Empty<Bytes>>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("answers with {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off or is too long: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("does not answer within {} s", PATIENCE.as_secs())]
    Silent,
}

impl Fetch {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self(client)
    }

    /// What the sidecar at `address` says. Cancel safe.
    pub(super) async fn status(&self, address: SocketAddr) -> Result<Bytes, FetchError> {
        match tokio::time::timeout(PATIENCE, self.ask(address)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Silent),
        }
    }

    async fn ask(&self, address: SocketAddr) -> Result<Bytes, FetchError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query("/status")
            .build()
            .expect("an address is an authority");
        let request = Request::get(uri)
            .header(header::CONNECTION, "close")
            .body(Empty::new())
            .expect("the request is fixed");
        let answer = self.0.request(request).await;
        let answer = answer.map_err(FetchError::Unreachable)?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER);
        let body = body.collect().await.map_err(FetchError::Body)?;
        Ok(body.to_bytes())
    }
}
