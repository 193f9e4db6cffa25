//! A client of the sidecar's API that does no more than HTTP: one hyper connection, kept open.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// What a request fails with: the connection broke, or the answer was not the one that was asked for.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A connection to a server, and the task that drives it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    // Ends the driver, and with it the connection, when it is dropped.
    _driver: JoinSet<()>,
}

/// An event stream that is open. Dropping it closes its connection.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    rest: Vec<u8>,
    _connection: Connection,
}

/// A lease, as far as its holder needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its handle.
    pub id: String,
    /// Its fencing token.
    pub token: u64,
    /// How long it is believed without renewal, in milliseconds.
    pub expires_in_ms: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Those of the socket and the handshake.
    pub async fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error reaches the request that it broke.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            host: address.to_string(),
            _driver: driver,
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let request = self.request(method, path, body.into())?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        Ok(request.body(Full::new(body))?)
    }

    /// Takes a lock.
    ///
    /// # Errors
    /// Those of the connection, and any answer but a grant, with its text.
    pub async fn acquire(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Lease, Error> {
        let (status, grant) = self.send(Method::POST, path, body).await?;
        let lease = Lease::read(&grant).filter(|_| status == StatusCode::OK);
        lease.ok_or_else(|| format!("acquire: {status} {}", String::from_utf8_lossy(&grant)).into())
    }

    /// Releases a lock.
    ///
    /// # Errors
    /// Those of the connection, and any answer but 204, with its text.
    pub async fn release(&mut self, lease: &str) -> Result<(), Error> {
        let path = format!("/v1/leases/{lease}");
        let (status, answer) = self.send(Method::DELETE, &path, Bytes::new()).await?;
        if status == StatusCode::NO_CONTENT {
            Ok(())
        } else {
            Err(format!("release: {status} {}", String::from_utf8_lossy(&answer)).into())
        }
    }

    /// Takes and releases a lock.
    ///
    /// # Errors
    /// As [`Connection::acquire`] and [`Connection::release`].
    pub async fn cycle(&mut self, path: &str, body: impl Into<Bytes>) -> Result<(), Error> {
        let lease = self.acquire(path, body).await?;
        self.release(&lease.id).await
    }

    /// Takes a lock that lives as long as the stream.
    ///
    /// # Errors
    /// Those of the connection, and any answer but a stream, with its text.
    pub async fn stream(mut self, path: &str, body: impl Into<Bytes>) -> Result<Stream, Error> {
        let mut request = self.request(Method::POST, path, body.into())?;
        request
            .headers_mut()
            .insert("accept", "text/event-stream".parse()?);
        let answer = self.sender.send_request(request).await?;
        if answer.status() == StatusCode::OK {
            return Ok(Stream {
                body: answer.into_body(),
                rest: Vec::new(),
                _connection: self,
            });
        }
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        Err(format!("stream: {status} {}", String::from_utf8_lossy(&text)).into())
    }
}

impl Stream {
    /// The next event's name and data; nothing at the stream's end.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn next(&mut self) -> Result<Option<(String, String)>, Error> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|bytes| bytes == b"\n\n") {
                let block: Vec<u8> = self.rest.drain(..end + 2).collect();
                let block = String::from_utf8(block)?;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(event) = field("event: ") {
                    return Ok(Some((
                        event.to_owned(),
                        field("data: ").unwrap_or_default().to_owned(),
                    )));
                }
                continue;
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Lease {
    /// Reads a grant, by looking for its fields: a measurement must not measure a JSON parser.
    pub fn read(grant: &[u8]) -> Option<Self> {
        let text = str::from_utf8(grant).ok()?;
        let after = |name: &str| text.split_once(name).map(|(_, rest)| rest);
        let number = |name: &str| {
            let rest = after(name)?;
            rest[..rest.find(|c: char| !c.is_ascii_digit())?]
                .parse()
                .ok()
        };
        Some(Self {
            id: after(r#""leaseId":""#)?.split_once('"')?.0.to_owned(),
            token: number(r#""fencingToken":"#)?,
            expires_in_ms: number(r#""expiresInMs":"#)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Lease;

    #[test]
    fn reads_a_grant() {
        let grant = br#"{"leaseId":"ab12","policy":"p","fencingToken":7168,"ttlMs":10000,"expiresInMs":9898}"#;
        let lease = Lease {
            id: "ab12".into(),
            token: 7168,
            expires_in_ms: 9898,
        };
        assert_eq!(Lease::read(grant), Some(lease));
        assert_eq!(Lease::read(br#"{"code":"held"}"#), None);
    }
}
