//! The client that both Pawl's sidecar and the reference server are asked with: one hyper connection, kept open.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::Error;

/// A connection to a server, and the task that drives it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    // Ends the driver when the connection is dropped.
    _driver: JoinSet<()>,
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
        Ok(Self { sender, host: address.to_string(), _driver: driver })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Error> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// Takes and releases a lock.
    ///
    /// # Errors
    /// Those of the connection, and any answer but a grant and a release.
    pub async fn cycle(&mut self, path: &str, body: Bytes) -> Result<(), Error> {
        let (status, grant) = self.send(Method::POST, path, body).await?;
        let lease = lease_id(&grant).filter(|_| status == StatusCode::OK);
        let lease = lease.ok_or_else(|| format!("acquire: {status} {}", String::from_utf8_lossy(&grant)))?;
        let (status, answer) = self.send(Method::DELETE, &format!("/v1/leases/{lease}"), Bytes::new()).await?;
        if status == StatusCode::NO_CONTENT {
            Ok(())
        } else {
            Err(format!("release: {status} {}", String::from_utf8_lossy(&answer)).into())
        }
    }
}

/// The handle in a grant, found without parsing the whole: the reference server's answers are not parsed either.
fn lease_id(grant: &[u8]) -> Option<&str> {
    let text = str::from_utf8(grant).ok()?;
    let (_, rest) = text.split_once(r#""leaseId":""#)?;
    rest.split_once('"').map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::lease_id;

    #[test]
    fn finds_the_handle_of_a_grant() {
        assert_eq!(lease_id(br#"{"leaseId":"ab12","policy":"p"}"#), Some("ab12"));
        assert_eq!(lease_id(br#"{"code":"held"}"#), None);
    }
}
