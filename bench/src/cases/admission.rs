//! The operator's webhook: how long the creation of a pod waits for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use pawl_crds::LockPolicy;
use pawl_e2e::server::certs::{Authority, Identity};
use pawl_kit::clock::Clock;
use pawl_operator::inject::{Config, PATH, Policies, PullPolicy, Webhook, server_config};
use prometheus::Registry;
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};
use tokio_rustls::TlsConnector;

use crate::{
    Error,
    report::{Bound, Measure},
};

const REVIEWS: usize = 5_000;
/// Each on a connection of its own, with a handshake.
const CONNECTIONS: usize = 500;
const NAME: &str = "pawl-webhook.pawl-system.svc";

/// One policy, by every name.
struct Same(Arc<LockPolicy>);

impl Policies for Same {
    fn get(&self, _: &str, _: &str) -> Option<Arc<LockPolicy>> {
        Some(Arc::clone(&self.0))
    }
}

/// Measures reviews one after another, on a connection that is there and each on a new one.
///
/// # Errors
/// Those of the sockets, and a review that is not answered with a patch.
pub async fn measure() -> Result<Vec<Measure>, Error> {
    let authority = Authority::new("bench");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (webhook, tls) = (webhook()?, served(&authority.issue(&[NAME], false))?);
    let mut servers = JoinSet::new();
    servers.spawn(webhook.serve(listener, tls, std::future::pending()));
    let connector = TlsConnector::from(authority.client(None));
    let body = Bytes::from(review().to_string());

    let clock = Clock::system();
    let (mut kept, mut fresh) = (Vec::new(), Vec::new());
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut sender = connect(&connector, address).await?;
            for _ in 0..REVIEWS {
                let start = clock.now();
                ask(&mut sender, body.clone()).await?;
                kept.push(clock.now().saturating_since(start));
            }
            for _ in 0..CONNECTIONS {
                let start = clock.now();
                let mut sender = connect(&connector, address).await?;
                ask(&mut sender, body.clone()).await?;
                fresh.push(clock.now().saturating_since(start));
            }
            Ok::<_, Error>(())
        })
        .await?;
    Ok(vec![
        p99("a review", &mut kept),
        p99("a review on a new connection", &mut fresh),
    ])
}

fn p99(what: &str, times: &mut [Duration]) -> Measure {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    Measure {
        case: "admission",
        what: format!("{what}, 99 of 100 within"),
        value: at(99),
        unit: "ms",
        bound: Some(Bound::AtMost(10.0)),
        detail: format!("median {:.3} ms of {}, one thread", at(50), times.len()),
    }
}

fn webhook() -> Result<Webhook, Error> {
    let policy = json!({
        "apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy", "metadata": {"name": "payments"},
        "spec": {
            "backend": {"redis": {"url": "redis://redis:6379/0", "credentialsSecretRef": {"name": "redis"}}},
            "sidecar": {"auth": "Token"},
        },
    });
    let config = Config {
        image: "pawl-sidecar:bench".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        version: "0.0.0".to_owned(),
        policies: Arc::new(Same(Arc::new(serde_json::from_value(policy)?))),
    };
    Ok(Webhook::new(config, &Registry::new())?)
}

fn served(identity: &Identity) -> Result<Arc<rustls::ServerConfig>, Error> {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let key = CertifiedKey::from_der(vec![certificate], key, &ring::default_provider())?;
    Ok(server_config(Arc::new(SingleCertAndKey::from(key))))
}

/// A pod as a ReplicaSet makes it.
fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "bank",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "generateName": "bank-6fdd6c78ff-", "labels": {"app": "bank", "pawl.dev/inject": "true"},
                    "annotations": {"pawl.dev/policies": "payments", "pawl.dev/socket": "true"},
                },
                "spec": {"containers": [
                    {"name": "bank", "image": "bank:1", "ports": [{"containerPort": 8080}], "env": [{"name": "A", "value": "b"}]},
                    {"name": "helper", "image": "helper:1"},
                ]},
            },
        },
    })
}

async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
) -> Result<http1::SendRequest<Full<Bytes>>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = connector
        .connect(ServerName::try_from(NAME)?, stream)
        .await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when its sender is dropped.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn ask(sender: &mut http1::SendRequest<Full<Bytes>>, body: Bytes) -> Result<(), Error> {
    let request = Request::post(PATH)
        .header("host", NAME)
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    if status != StatusCode::OK || !answer["response"]["patch"].is_string() {
        return Err(format!("no patch: {status} {answer}").into());
    }
    Ok(())
}
