//! What these tests work with: one server for all, a namespace for each.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use pawl_e2e::server::kubernetes::{Access, Account, Front, KubernetesServer};
use pawl_lock::{
    BackendToken, HoldId, Key, Namespace, Owner, PolicyName, Ttl,
    backend::{
        AcquireRequest, Acquired, Backend, BackendEvent, Busy, Events, ReleaseRequest,
        RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    kubernetes::{Kubernetes, KubernetesConfig},
};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::fixture;

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The shortest ttl there is.
pub(crate) const SHORT: Duration = Duration::from_secs(5);

/// The server that the tests of this program share.
pub(crate) fn shared() -> &'static KubernetesServer {
    static SERVER: OnceLock<KubernetesServer> = OnceLock::new();
    SERVER.get_or_init(KubernetesServer::start)
}

/// A namespace of its own with an account of a sidecar.
pub(crate) struct Bench<'a> {
    pub(crate) server: &'a KubernetesServer,
    pub(crate) account: Account,
    pub(crate) leases: Api<Lease>,
}

/// A sidecar as far as a backend sees it.
pub(crate) struct Sidecar {
    pub(crate) backend: Arc<Kubernetes>,
    pub(crate) events: mpsc::UnboundedReceiver<BackendEvent>,
    _run: JoinSet<()>,
}

struct Teller(mpsc::UnboundedSender<BackendEvent>);

impl Events for Teller {
    fn tell(&self, event: BackendEvent) {
        let _ = self.0.send(event);
    }
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(server: &'a KubernetesServer) -> Self {
        Self::with(server, &fixture::least_access()).await
    }

    pub(crate) async fn with(server: &'a KubernetesServer, access: &Access) -> Self {
        let namespace = format!("team-{:x}", rand::random::<u64>());
        let account = server.account(&namespace, "app", access).await;
        Self {
            server,
            leases: Api::namespaced(server.client(), &namespace),
            account,
        }
    }

    pub(crate) fn config(&self) -> KubernetesConfig {
        let namespace = Namespace::try_new(self.account.namespace()).unwrap();
        let policy = PolicyName::try_new("jobs").unwrap();
        KubernetesConfig {
            policy: policy.clone(),
            namespace: namespace.clone(),
            ..fixture::config(
                self.server.config_of(&self.account),
                &Scope::of(&namespace, &policy),
            )
        }
    }

    pub(crate) fn sidecar(&self) -> Sidecar {
        Sidecar::new(self.config())
    }

    /// One that reaches the server through a front.
    pub(crate) fn sidecar_behind(&self, front: &Front) -> Sidecar {
        let mut access = self.server.config_of(&self.account);
        access.cluster_url = front.url().parse().unwrap();
        let mut config = self.config();
        config.access = pawl_sidecar::backend::kubernetes::ApiAccess::Given(Box::new(access));
        Sidecar::new(config)
    }

    /// The only Lease in the namespace that is a key's.
    pub(crate) async fn lease(&self) -> Lease {
        let all = self
            .leases
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        let [lease] = all.try_into().unwrap_or_else(|all| panic!("{all:?}"));
        lease
    }

    pub(crate) async fn edit(&self, patch: Value) {
        let name = self.lease().await.metadata.name.unwrap();
        self.leases
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self) {
        let name = self.lease().await.metadata.name.unwrap();
        self.leases
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

impl Sidecar {
    pub(crate) fn new(config: KubernetesConfig) -> Self {
        let backend = Arc::new(Kubernetes::new(config));
        let (teller, events) = mpsc::unbounded_channel();
        let mut run = JoinSet::new();
        run.spawn(Arc::clone(&backend).run(Arc::new(Teller(teller))));
        Self {
            backend,
            events,
            _run: run,
        }
    }

    pub(crate) async fn take(&self, request: &AcquireRequest) -> BackendToken {
        match self.backend.acquire(request).await.unwrap() {
            Acquired::Granted(granted) => granted.token,
            Acquired::Busy(busy) => panic!("{busy:?}"),
        }
    }

    pub(crate) async fn refused(&self, request: &AcquireRequest) -> Busy {
        match self.backend.acquire(request).await.unwrap() {
            Acquired::Busy(busy) => busy,
            Acquired::Granted(granted) => panic!("{granted:?}"),
        }
    }

    pub(crate) async fn take_in_the_end(&self, request: &AcquireRequest) -> BackendToken {
        let start = Instant::now();
        loop {
            match self.backend.acquire(request).await {
                Ok(Acquired::Granted(granted)) => return granted.token,
                other => assert!(start.elapsed() < PATIENCE, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn renew(&self, request: &AcquireRequest, token: BackendToken) -> Renewed {
        self.backend.renew(&renewal(request, token)).await.unwrap()
    }

    pub(crate) async fn release(&self, request: &AcquireRequest, token: BackendToken) -> bool {
        let release = ReleaseRequest {
            key: request.key.clone(),
            hold: request.hold,
            mode: request.mode,
            token,
            next: None,
        };
        self.backend.release(&release).await.unwrap().was_owner
    }

    pub(crate) async fn hears(&mut self, is_it: impl Fn(&BackendEvent) -> bool) {
        let heard = async {
            while let Some(event) = self.events.recv().await {
                if is_it(&event) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard)
            .await
            .expect("it is told");
    }
}

pub(crate) fn renewal(request: &AcquireRequest, token: BackendToken) -> RenewRequest {
    RenewRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token,
        ttl: request.ttl,
        owner: request.owner.clone(),
    }
}

/// An exclusive attempt at one and the same key.
pub(crate) fn attempt(ttl: Duration) -> AcquireRequest {
    AcquireRequest {
        key: Key::try_new("report/daily").unwrap(),
        hold: HoldId::from_bits(rand::random()),
        mode: Mode::Exclusive,
        ttl: Ttl::try_new(ttl).unwrap(),
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("worker-1").unwrap(),
    }
}
