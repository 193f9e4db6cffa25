//! The exporter's HTTP client: one connection a request, driven by the caller.
//!
//! An export comes every few seconds, so a pool with its background tasks would cost more than a new connection. What
//! is sent, read and waited for is bounded.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The most that is read of a collector's answer.
const MAX_ANSWER: usize = 64 * 1024;

/// The files that TLS to the collector may need: `OTEL_EXPORTER_OTLP_CERTIFICATE` and its kin.
#[derive(Clone, Default, Debug)]
pub(super) struct Files {
    pub(super) authorities: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Transport {
    timeout: Duration,
    files: Files,
    /// Made at the first `https` request: the system's authorities take time and memory to load.
    tls: OnceLock<Arc<ClientConfig>>,
    error: Mutex<Option<String>>,
}

impl Transport {
    pub(super) const fn new(timeout: Duration, files: Files) -> Self {
        Self {
            timeout,
            files,
            tls: OnceLock::new(),
            error: Mutex::new(None),
        }
    }

    /// Why the last request failed, once: the exporter hides it.
    pub(super) fn take_error(&self) -> Option<String> {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let host = request
            .uri()
            .host()
            .ok_or("the endpoint has no host")?
            .to_owned();
        let secure = match request.uri().scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the endpoint is neither http nor https".into()),
        };
        let port = request
            .uri()
            .port_u16()
            .unwrap_or(if secure { 443 } else { 80 });
        let request = to_origin_form(request)?;
        // An IPv6 address stands in brackets in a URI and without them everywhere else.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if !secure {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(host)?;
        let stream = tokio_rustls::TlsConnector::from(self.tls()?)
            .connect(name, stream)
            .await?;
        exchange(stream, request).await
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let Files {
            authorities,
            certificate,
            key,
        } = &self.files;
        let config = crate::tls::config_from_files(
            authorities.as_deref(),
            certificate.as_deref().zip(key.as_deref()),
        )?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = tokio::time::timeout(self.timeout, self.send(request)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout).into()));
        let failure = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        answer
    }
}

/// The form in which a request is sent to the server itself: the path in the first line, the host in a header.
fn to_origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("the endpoint has no host")?;
    // Without user and password, should there be any.
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    parts.headers.insert(HOST, HeaderValue::from_str(host)?);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    parts.uri = parts
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .parse::<Uri>()?;
    Ok(Request::from_parts(parts, Full::new(body)))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut talk = pin!(async move {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    });
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        ended = connection => {
            ended?;
            talk.await
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn request(uri: &str) -> Request<Bytes> {
        Request::post(uri)
            .body(Bytes::from_static(b"spans"))
            .unwrap()
    }

    /// Answers one request over TLS, and hands back what it read.
    async fn secure_server() -> (u16, tempfile::NamedTempFile, JoinSet<String>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let authorities = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(authorities.path(), made.cert.pem()).unwrap();
        let key =
            PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()];
        let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return String::new();
            };
            let mut read = Vec::new();
            while !read.ends_with(b"spans") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                read.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(read).unwrap()
        });
        (port, authorities, serving)
    }

    #[tokio::test]
    async fn https_is_verified_against_the_given_authorities() {
        let (port, authorities, mut serving) = secure_server().await;
        let files = Files {
            authorities: Some(authorities.path().to_owned()),
            ..Files::default()
        };
        let transport = Transport::new(SOON, files);
        let uri = format!("https://user:word@localhost:{port}/v1/traces");
        let answer = transport.send_bytes(request(&uri)).await.unwrap();
        assert_eq!(answer.body(), "ok");
        assert_eq!(transport.take_error(), None);
        let read = serving.join_next().await.unwrap().unwrap();
        assert!(read.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{read}");
        assert!(
            read.contains(&format!("host: localhost:{port}\r\n")) && !read.contains("word"),
            "{read}"
        );
    }

    #[tokio::test]
    async fn https_to_a_stranger_is_refused() {
        let (port, _theirs, _serving) = secure_server().await;
        let (_, ours, _) = secure_server().await;
        let files = Files {
            authorities: Some(ours.path().to_owned()),
            ..Files::default()
        };
        let transport = Transport::new(SOON, files);
        let error = transport
            .send_bytes(request(&format!("https://localhost:{port}/")))
            .await
            .unwrap_err();
        assert_eq!(
            crate::tls::tls_reason_in(error.as_ref()),
            Some("unknown_ca"),
            "{error}"
        );
        let missing = Files {
            authorities: Some("/nowhere/ca.pem".into()),
            ..Files::default()
        };
        let transport = Transport::new(SOON, missing);
        let _ = transport
            .send_bytes(request(&format!("https://localhost:{port}/")))
            .await
            .unwrap_err();
    }

    #[tokio::test]
    async fn a_collector_that_says_nothing_or_too_much_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let transport = Transport::new(Duration::from_millis(50), Files::default());
        transport.send_bytes(request(&uri)).await.unwrap_err();
        assert_eq!(transport.take_error().unwrap(), "no answer within 50ms");
        drop(listener.accept().await.unwrap());

        let transport = Transport::new(SOON, Files::default());
        let flood = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // An answer must not come before its question.
            stream.read_u8().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        };
        let request = request(&uri);
        let (answer, ()) = tokio::time::timeout(SOON, async {
            tokio::join!(transport.send_bytes(request), flood)
        })
        .await
        .unwrap();
        assert!(
            answer.unwrap_err().to_string().contains("length limit"),
            "{:?}",
            transport.take_error()
        );
    }
}
