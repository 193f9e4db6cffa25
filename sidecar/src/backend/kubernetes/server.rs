//! The API server: a request and its answer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use k8s_openapi::{
    List,
    api::{authorization::v1::SelfSubjectAccessReview, coordination::v1::Lease},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use pawl_lock::{
    BackendError,
    backend::{Category, Outcome},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::{BoxError, ServiceBuilder};

use super::{
    budget::{Budget, Turn, Urgency},
    config::{ApiAccess, KubernetesConfig, Now},
    errors::{self, Doing},
};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long a silence the kernel looks whether the other end of a connection is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How many connections are kept for the next call, and how long.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_CONNECTION: Duration = Duration::from_secs(90);
/// How long the API server may work on a request: a write that comes later than this after its arrival has no effect.
const SERVER_TIMEOUT: &str = "timeout=5s";
/// The most bytes of an answer with one object: etcd stores at most 1.5 MiB.
const MAX_OBJECT: usize = 2 << 20;
/// The most bytes of a page of a list.
const MAX_PAGE: usize = 32 << 20;

/// The API server, as far as one namespace's Leases go. Connects at its first call.
pub(super) struct Server {
    access: ApiAccess,
    namespace: String,
    budget: Budget,
    now: Now,
    client: Mutex<Option<Client>>,
}

/// How a write ended that had no effect because the object is another by now.
#[derive(Debug)]
pub(super) enum Refused {
    /// It was changed, made or removed meanwhile: read it again.
    Changed,
    /// Another reason.
    Error(BackendError),
}

struct Reply {
    status: StatusCode,
    body: Vec<u8>,
}

impl Server {
    pub(super) fn new(config: &KubernetesConfig) -> Self {
        Self {
            access: config.access.clone(),
            namespace: config.namespace.to_string(),
            budget: config.budget.clone(),
            now: config.now.clone(),
            client: Mutex::default(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads an object as it is now (not from the server's cache); nothing if it is not there.
    pub(super) async fn get(
        &self,
        name: &str,
        urgency: Urgency,
    ) -> Result<Option<Lease>, BackendError> {
        let request = self.request(Method::GET, &format!("/{name}"), None)?;
        let reply = self.send(request, Doing::Get, urgency, MAX_OBJECT).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => self.parse(reply, Doing::Get).map(Some),
        }
    }

    /// Writes an object: makes it if it has no version, and otherwise replaces exactly that version.
    pub(super) async fn write(&self, lease: &Lease, urgency: Urgency) -> Result<Lease, Refused> {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let is_new = lease.metadata.resource_version.is_none();
        let (method, path, doing) = if is_new {
            (Method::POST, format!("?{SERVER_TIMEOUT}"), Doing::Create)
        } else {
            (
                Method::PUT,
                format!("/{name}?{SERVER_TIMEOUT}"),
                Doing::Update,
            )
        };
        let sent = async {
            let request = self.request(method, &path, Some(&body(lease)?))?;
            self.send(request, doing, urgency, MAX_OBJECT).await
        };
        let reply = sent.await.map_err(Refused::Error)?;
        match reply.status {
            StatusCode::CONFLICT => Err(Refused::Changed),
            StatusCode::NOT_FOUND if !is_new => Err(Refused::Changed),
            _ => self.parse(reply, doing).map_err(Refused::Error),
        }
    }

    /// Removes exactly this version of an object; `false` if it is another by now.
    pub(super) async fn delete(&self, lease: &Lease) -> Result<bool, BackendError> {
        let metadata = &lease.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let options = json!({"preconditions": {
            "uid": metadata.uid, "resourceVersion": metadata.resource_version,
        }});
        let request = self.request(Method::DELETE, &format!("/{name}"), Some(&body(&options)?))?;
        let reply = self
            .send(request, Doing::Delete, Urgency::Wanted, MAX_OBJECT)
            .await?;
        match reply.status {
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(false),
            _ => self.parse::<Value>(reply, Doing::Delete).map(|_| true),
        }
    }

    /// A page of the objects with a label, and where the next one begins.
    pub(super) async fn list(
        &self,
        selector: &str,
        limit: u32,
        from: Option<&str>,
    ) -> Result<List<Lease>, BackendError> {
        let from = from
            .map(|from| format!("&continue={from}"))
            .unwrap_or_default();
        let path = format!(
            "?labelSelector={}&limit={limit}{from}",
            selector.replace('=', "%3D")
        );
        let request = self.request(Method::GET, &path, None)?;
        let reply = self
            .send(request, Doing::List, Urgency::Wanted, MAX_PAGE)
            .await?;
        self.parse(reply, Doing::List)
    }

    /// Whether this account may do it.
    pub(super) async fn may(&self, doing: Doing) -> Result<bool, BackendError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": self.namespace, "verb": doing.verb(),
                "group": "coordination.k8s.io", "resource": "leases",
            }},
        });
        let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body(&review)?))
            .map_err(errors::not_a_request)?;
        let reply = self
            .send(request, Doing::Review, Urgency::Wanted, MAX_OBJECT)
            .await?;
        let answer: SelfSubjectAccessReview = self.parse(reply, Doing::Review)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// The client, made if there is none. Tokens and certificates in files are read again by it.
    pub(super) async fn client(&self) -> Result<Client, BackendError> {
        if let Some(client) = &*self.slot() {
            return Ok(client.clone());
        }
        let config = match &self.access {
            ApiAccess::Given(config) => (**config).clone(),
            ApiAccess::Inferred => Config::infer()
                .await
                .map_err(|error| errors::no_access(&error))?,
        };
        let client = connect(config).map_err(|error| errors::no_access(&error))?;
        Ok(self.slot().get_or_insert(client).clone())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Request<Body>, BackendError> {
        let namespace = &self.namespace;
        let url = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases{path}");
        let request = Request::builder().method(method).uri(url);
        match body {
            None => request.body(Body::empty()),
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_vec())),
        }
        .map_err(errors::not_a_request)
    }

    async fn send(
        &self,
        request: Request<Body>,
        doing: Doing,
        urgency: Urgency,
        most: usize,
    ) -> Result<Reply, BackendError> {
        loop {
            match self.budget.ask(urgency, (self.now)()) {
                Turn::Now => break,
                Turn::After(wait) => sleep(wait).await,
                Turn::Refused(wait) => return Err(errors::asked_to_wait(wait)),
            }
        }
        let client = self.client().await?;
        let answer = client
            .send(request)
            .await
            .map_err(|error| errors::of_call(&error, doing))?;
        let status = answer.status();
        if let Some(wait) = retry_after(&answer) {
            self.budget.wait(wait, (self.now)());
        }
        let collected = Limited::new(answer.into_body(), most).collect().await;
        let body = collected.map_err(|error| errors::broken(&*error, doing))?;
        Ok(Reply {
            status,
            body: body.to_bytes().into(),
        })
    }

    fn parse<T: DeserializeOwned>(&self, reply: Reply, doing: Doing) -> Result<T, BackendError> {
        if !reply.status.is_success() {
            return Err(errors::refused(
                reply.status,
                &reply.body,
                doing,
                &self.namespace,
            ));
        }
        serde_json::from_slice(&reply.body).map_err(|error| {
            let what = "the API server answered something that is not understood";
            BackendError::new(Category::Protocol, doing.outcome(), what).with_source(error)
        })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that sends at once what it is given, repeats nothing by itself and logs nothing: that is the caller's.
fn connect(mut config: Config) -> Result<Client, kube::Error> {
    let agent = concat!("pawl-sidecar/", env!("CARGO_PKG_VERSION"));
    config
        .headers
        .push((header::USER_AGENT, header::HeaderValue::from_static(agent)));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build::<_, Body>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// How long the server wants to be left alone: it says so with 429, and with 503 and others when it is overloaded.
fn retry_after(answer: &http::Response<Body>) -> Option<Duration> {
    let is_overloaded =
        answer.status() == StatusCode::TOO_MANY_REQUESTS || answer.status().is_server_error();
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = value.trim().parse().ok()?;
    (is_overloaded && seconds > 0).then(|| Duration::from_secs(seconds))
}

fn body(value: &impl Serialize) -> Result<Vec<u8>, BackendError> {
    serde_json::to_vec(value).map_err(|error| {
        BackendError::new(
            Category::Protocol,
            Outcome::NotApplied,
            "an object cannot be written as JSON",
        )
        .with_source(error)
    })
}
