//! A small HTTP/1.1 client: keeps connections alive, talks TCP or a Unix socket, starts no task.
//!
//! A connection's driver is polled together with the request that uses it and rests with it in the pool,
//! so nothing runs when nobody waits. [`Client::send`] and [`Client::open`] may be cancelled: the
//! connection is closed then, which a Pawl sidecar takes for "the caller left".

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;

mod target;
pub use target::Target;

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 4 << 20;
/// Idle connections kept for reuse.
const IDLE_LIMIT: usize = 64;
/// The longest a connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The address is not one that this client can talk to.
    #[error("`{0}` is not an address; write http://HOST:PORT or unix:/PATH")]
    Address(String),
    /// Nothing was sent: the other side is not there.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// Where to.
        to: String,
        /// What the system said.
        source: io::Error,
    },
    /// Sent, or perhaps sent, and no whole answer came back: whether it took effect is unknown.
    #[error("no answer from {to}: {cause}")]
    Silent {
        /// Where to.
        to: String,
        /// What went wrong.
        cause: String,
    },
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// One connection: the handle to send on and the driver that moves its bytes.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    ended: bool,
}

impl Connection {
    /// Runs `exchange` while moving the connection's bytes.
    async fn drive<T>(
        driver: &mut Driver,
        ended: &mut bool,
        exchange: impl Future<Output = T>,
    ) -> T {
        let mut exchange = std::pin::pin!(exchange);
        if !*ended {
            tokio::select! {
                biased;
                out = &mut exchange => return out,
                _ = &mut *driver => *ended = true,
            }
        }
        // The driver is gone, so whatever the exchange still waits for is answered or refused at once.
        exchange.await
    }

    /// Whether the other side still keeps the connection open, as far as we were told.
    async fn is_alive(&mut self) -> bool {
        let driver = &mut self.driver;
        let ended = poll_fn(|cx| Poll::Ready(driver.as_mut().poll(cx).is_ready())).await;
        !ended && self.sender.is_ready()
    }
}

/// A client of one server.
pub struct Client {
    target: Target,
    idle: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.target).finish()
    }
}

impl Client {
    /// A client of the server at `address`: `http://HOST:PORT` or `unix:/PATH`. Connects on first use.
    pub fn new(address: &str) -> Result<Self, WireError> {
        Ok(Self {
            target: Target::parse(address)?,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Sends a request and reads the whole answer, within `limit`.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Bytes>, WireError> {
        tokio::time::timeout(limit, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(self.silent(&format!("nothing within {limit:?}"))))
    }

    /// `GET path`, the whole answer.
    pub async fn get(&self, path: &str, limit: Duration) -> Result<Response<Bytes>, WireError> {
        self.send(request(Method::GET, path, &Bytes::new(), &[]), limit)
            .await
    }

    /// `POST path` with a JSON body and extra headers, the whole answer.
    pub async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        headers: &[(&'static str, &str)],
        limit: Duration,
    ) -> Result<Response<Bytes>, WireError> {
        self.send(request(Method::POST, path, &json(body), headers), limit)
            .await
    }

    /// Sends a request on a connection of its own and hands out the answer's body as it comes. Dropping
    /// the [`Stream`] closes the connection.
    pub async fn open(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Stream, WireError> {
        let opening = async {
            let mut c = self.connect().await?;
            let sent = c.sender.send_request(self.with_host(request));
            let answer = Connection::drive(&mut c.driver, &mut c.ended, sent)
                .await
                .map_err(|e| self.silent(&e))?;
            Ok(Stream {
                connection: c,
                answer,
            })
        };
        tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|_| Err(self.silent(&format!("nothing within {limit:?}"))))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, WireError> {
        let mut c = match self.take_idle().await {
            Some(c) => c,
            None => self.connect().await?,
        };
        let request = self.with_host(request);
        let Connection {
            sender,
            driver,
            ended,
        } = &mut c;
        let whole = async {
            let answer = sender
                .send_request(request)
                .await
                .map_err(|e| self.silent(&e))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT)
                .collect()
                .await
                .map_err(|e| self.silent(&e))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = Connection::drive(driver, ended, whole).await?;
        if !c.ended {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_LIMIT {
                idle.push(c);
            }
        }
        Ok(answer)
    }

    /// A connection from the pool that the server has not closed meanwhile.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut c = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()?;
            if c.is_alive().await {
                return Some(c);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, WireError> {
        let failed = |source| WireError::Connect {
            to: self.target.to_string(),
            source,
        };
        let socket = tokio::time::timeout(CONNECT_LIMIT, self.target.connect())
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        let (sender, driver) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|e| self.silent(&e))?;
        Ok(Connection {
            sender,
            driver: Box::pin(driver),
            ended: false,
        })
    }

    fn with_host(&self, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
        request
            .headers_mut()
            .insert(HOST, self.target.host().clone());
        request
    }

    fn silent(&self, cause: &dyn std::fmt::Display) -> WireError {
        WireError::Silent {
            to: self.target.to_string(),
            cause: cause.to_string(),
        }
    }
}

/// An answer whose body is still coming.
pub struct Stream {
    connection: Connection,
    answer: Response<Incoming>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("status", &self.answer.status())
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// The answer's status.
    pub fn status(&self) -> hyper::StatusCode {
        self.answer.status()
    }

    /// The next bytes of the body; `None` at its end, also when the connection broke. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.answer.body_mut().frame();
            let Connection { driver, ended, .. } = &mut self.connection;
            let frame = Connection::drive(driver, ended, frame).await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }
}

/// A request for [`Client::send`]; a body that is not empty is JSON. Header values that HTTP does not
/// allow are left out.
pub fn request(
    method: Method,
    path: &str,
    body: &Bytes,
    headers: &[(&'static str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_default();
    if !body.is_empty() {
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers_mut().insert(*name, value);
        }
    }
    request
}

/// A value as a JSON body.
pub fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).unwrap_or_default().into()
}
