//! A Kubernetes API server with its etcd, and nothing else: no controller, no scheduler, no node.
//!
//! What an API server alone decides is real here: storage and `resourceVersion`, watches, admission (webhooks, CEL,
//! validating admission policies), RBAC, priority and fairness, service-account tokens. What controllers would do is
//! not: nobody makes a namespace's `default` service account or collects garbage, and no pod ever runs. For that there
//! is the test cluster (`e2e/cluster`).
//!
//! ```no_run
//! # async fn example() {
//! use pawl_e2e::server::kubernetes::{Access, KubernetesServer};
//! let server = KubernetesServer::start();
//! server.apply(include_str!("../../../crds/lockpolicies.pawl.dev.yaml")).await;
//! let account = server.account("team-a", "app", &Access::default()).await;
//! let client = server.client_of(&account);
//! # }
//! ```

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use kube::{Client, Config, config::AuthInfo};
use rcgen::KeyPair;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Process, Program,
    certs::{Authority, Identity},
    free_port,
};

pub use access::{Access, Account, Rule};
pub use front::{Front, Trouble};

mod access;
mod front;
pub mod objects;

const ETCD: Program = Program {
    name: "etcd",
    package: "etcd-server",
};

/// Where the binary with the Kubernetes components is, if not where [`BUILT`] says.
const BINARY: &str = "PAWL_KUBERNETES";
/// Where `scripts/need-cluster` puts it.
const BUILT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/cluster/bin/kubernetes"
);

/// How long a server may take to answer, on a machine that builds something beside it.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a server is to be started.
#[derive(Clone, Debug, Default)]
pub struct KubernetesOptions {
    /// Further flags of kube-apiserver, such as `--max-mutating-requests-inflight=1`. The last one of a name counts.
    pub flags: Vec<String>,
    /// Further environment of kube-apiserver.
    pub environment: Vec<(&'static str, OsString)>,
}

/// An API server on a free port of the loopback, with an etcd of its own. Ended when it is dropped.
pub struct KubernetesServer {
    options: KubernetesOptions,
    port: u16,
    store: Ports,
    admin: Account,
    authority: Authority,
    /// What is told of the authority.
    authority_pem: String,
    identity: Identity,
    /// Before the folder, so that they end before it goes.
    api: Mutex<Option<Process>>,
    etcd: Mutex<Option<Process>>,
    folder: TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    peers: u16,
}

impl KubernetesServer {
    /// Starts one with RBAC and the default admission plugins. Blocks until it answers; may be called within a runtime.
    ///
    /// # Panics
    /// If a program is missing, with the command that installs or builds it, or if it does not start.
    pub fn start() -> Self {
        Self::start_with(KubernetesOptions::default())
    }

    /// Starts one that is set up otherwise.
    ///
    /// # Panics
    /// If a program is missing, with the command that installs or builds it, or if it does not start.
    pub fn start_with(options: KubernetesOptions) -> Self {
        for _ in 0..5 {
            let server = Self::prepare(options.clone());
            if server.launch_store() && server.launch_api() {
                return server;
            }
            let (etcd, api) = (log_of(&server.etcd), log_of(&server.api));
            eprintln!("a server ended at once, trying other ports: {etcd}\n{api}");
        }
        panic!("kube-apiserver does not start");
    }

    /// Its address, `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that signed its own, PEM.
    pub fn authority(&self) -> &str {
        &self.authority_pem
    }

    /// Its certificate and key.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// TLS that trusts it.
    pub(super) fn client_tls(&self) -> Arc<rustls::ClientConfig> {
        self.authority.client(None)
    }

    /// Who may do everything (group `system:masters`).
    pub fn admin(&self) -> &Account {
        &self.admin
    }

    /// A client of the administrator. Within a runtime only, whose end is the client's.
    pub fn client(&self) -> Client {
        self.client_of(&self.admin)
    }

    /// A client of an account. Within a runtime only, whose end is the client's. It repeats nothing by itself.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn client_of(&self, account: &Account) -> Client {
        Client::try_from(self.config_of(account)).expect("the configuration is good")
    }

    /// How a client of an account reaches the server.
    ///
    /// # Panics
    /// Never: what it is made of was written here.
    pub fn config_of(&self, account: &Account) -> Config {
        let authority =
            rustls::pki_types::pem::PemObject::from_pem_slice(self.authority_pem.as_bytes())
                .map(|der: rustls::pki_types::CertificateDer<'_>| der.as_ref().to_vec())
                .expect("it is PEM");
        let mut config = Config::new(self.url().parse().expect("it is a URL"));
        config.root_cert = Some(vec![authority]);
        config.auth_info = AuthInfo {
            token: Some(account.token().to_owned().into()),
            ..AuthInfo::default()
        };
        account
            .namespace()
            .clone_into(&mut config.default_namespace);
        config.default_retry = false;
        config
    }

    /// A kubeconfig file for the account, for `KUBECONFIG` of other programs. It lives as long as the server.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn kubeconfig(&self, account: &Account) -> PathBuf {
        self.kubeconfig_at(account, &self.url())
    }

    /// The same for a server that is reached at another address, such as a proxy before it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn kubeconfig_at(&self, account: &Account, url: &str) -> PathBuf {
        let name = format!("{}-{:x}.kubeconfig", account.name(), rand::random::<u64>());
        let path = self.folder.path().join(name);
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": url,
                "certificate-authority": self.folder.path().join("authority.crt"),
            }}],
            "users": [{"name": "test", "user": {"token": account.token()}}],
            "contexts": [{"name": "test", "context": {
                "cluster": "test", "user": "test", "namespace": account.namespace(),
            }}],
        });
        std::fs::write(&path, text.to_string()).expect("the folder can be written");
        path
    }

    /// Stops the API server in its tracks (SIGSTOP).
    pub fn pause(&self) {
        with(&self.api, |process| process.signal(Signal::STOP));
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        with(&self.api, |process| process.signal(Signal::CONT));
    }

    /// Stops etcd in its tracks: the API server answers, but knows nothing any more.
    pub fn pause_store(&self) {
        with(&self.etcd, |process| process.signal(Signal::STOP));
    }

    /// Lets it go on.
    pub fn resume_store(&self) {
        with(&self.etcd, |process| process.signal(Signal::CONT));
    }

    /// Kills the API server (SIGKILL) and waits until it is gone. What is stored stays.
    pub fn kill(&self) {
        with(&self.api, Process::kill);
    }

    /// Starts a killed API server again on the same port and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&self) {
        assert!(self.launch_api(), "it ended: {}", self.log());
    }

    /// Kills both and starts them again with what was stored.
    ///
    /// # Panics
    /// If they do not start.
    pub fn crash_and_restart(&self) {
        with(&self.api, Process::kill);
        with(&self.etcd, Process::kill);
        assert!(self.launch_store(), "it ended: {}", log_of(&self.etcd));
        self.start_again();
    }

    /// What the API server said.
    pub fn log(&self) -> String {
        log_of(&self.api)
    }

    fn prepare(options: KubernetesOptions) -> Self {
        let folder = TempDir::with_prefix("pawl-kubernetes-").expect("a folder can be made");
        let authority = Authority::new("kubernetes");
        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
        let identity = authority.issue(&names, false);
        identity.write(folder.path(), "server");
        let accounts = KeyPair::generate().expect("a key can be made");
        let admin = Account::administrator();
        for (name, text) in [
            ("authority.crt", authority.certificate()),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("tokens.csv", admin.line()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("the folder can be written");
        }
        Self {
            options,
            port: free_port(),
            store: Ports {
                clients: free_port(),
                peers: free_port(),
            },
            admin,
            authority_pem: authority.certificate(),
            authority,
            identity,
            api: Mutex::new(None),
            etcd: Mutex::new(None),
            folder,
        }
    }

    /// Starts etcd; false if it ended. Whether it answers shows when the API server does.
    fn launch_store(&self) -> bool {
        let Ports { clients, peers } = self.store;
        let (clients, peers) = (local(clients), local(peers));
        let data = self.folder.path().join("etcd").display().to_string();
        let process = Process::start(
            ETCD,
            [
                format!("--data-dir={data}"),
                format!("--listen-client-urls={clients}"),
                format!("--advertise-client-urls={clients}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
            ],
            &[],
            None,
            &self.folder.path().join("etcd.log"),
        );
        let start = Instant::now();
        let address = (std::net::Ipv4Addr::LOCALHOST, self.store.clients);
        while std::net::TcpStream::connect(address).is_err() {
            if process.has_ended() {
                *lock(&self.etcd) = Some(process);
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "etcd: {}", process.log());
            thread::sleep(Duration::from_millis(10));
        }
        *lock(&self.etcd) = Some(process);
        true
    }

    /// Starts the API server and waits until it is ready; false if it ended.
    fn launch_api(&self) -> bool {
        let process = Process::start(
            Program {
                name: binary(),
                package: "scripts/need-cluster",
            },
            std::iter::once("kube-apiserver".to_owned()).chain(self.flags()),
            &self.options.environment,
            None,
            &self.folder.path().join("api.log"),
        );
        let start = Instant::now();
        while !self.is_ready() {
            if process.has_ended() {
                *lock(&self.api) = Some(process);
                return false;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "kube-apiserver is not ready: {}",
                process.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        *lock(&self.api) = Some(process);
        true
    }

    fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut flags = vec![
            format!("--etcd-servers={}", local(self.store.clients)),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", path("server.crt")),
            format!("--tls-private-key-file={}", path("server.key")),
            format!("--client-ca-file={}", path("authority.crt")),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--service-account-key-file={}", path("accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                path("accounts.key")
            ),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // Its controller, which would make the accounts that it asks for, is not here.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--shutdown-delay-duration=0s".to_owned(),
        ];
        flags.extend(self.options.flags.iter().cloned());
        flags
    }

    /// Asks `/readyz` from a thread with a runtime of its own, as this one may be in one already.
    fn is_ready(&self) -> bool {
        let config = self.config_of(&self.admin);
        let ask = async move {
            let client = Client::try_from(config).expect("the configuration is good");
            let request = http::Request::get("/readyz").body(Vec::new());
            let answer = client.request_text(request.expect("it is a request"));
            matches!(
                tokio::time::timeout(Duration::from_secs(5), answer).await,
                Ok(Ok(text)) if text == "ok"
            )
        };
        let asking = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made")
                .block_on(ask)
        });
        asking.join().unwrap_or(false)
    }
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The binary that holds the components of Kubernetes.
fn binary() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::var(BINARY).unwrap_or_else(|_| BUILT.to_owned());
        assert!(
            Path::new(&path).exists(),
            "{path} is not there: build it with scripts/need-cluster (part of make test and make cluster-up), or say \
             where it is with {BINARY}"
        );
        path
    })
}

fn lock(process: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with(process: &Mutex<Option<Process>>, act: impl FnOnce(&Process)) {
    act(lock(process).as_ref().expect("the server was started"));
}

fn log_of(process: &Mutex<Option<Process>>) -> String {
    lock(process).as_ref().map(Process::log).unwrap_or_default()
}
