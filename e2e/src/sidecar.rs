//! Sidecars as processes.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use hyper::{Method, StatusCode, body::Bytes};
use pawl_kit::clock::Clock;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    http::{Connection, Error},
    server::{Process, Program, free_port},
};

/// The policy's name in every sidecar here.
pub const POLICY: &str = "test";

/// How long a sidecar may take to be ready, on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running sidecar with one policy. Dropping it ends the process.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where its admin server listens.
    pub admin: SocketAddr,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
    _folder: TempDir,
}

impl Sidecar {
    /// Starts one whose policy has this `spec`, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start or is not ready within 20 s.
    pub async fn start(spec: &Value) -> Self {
        Self::start_as("sidecar", spec).await
    }

    /// The same with a name of its own.
    ///
    /// # Panics
    /// As [`Sidecar::start`].
    pub async fn start_as(identity: &str, spec: &Value) -> Self {
        Self::start_in(&[], identity, spec).await
    }

    /// The same with this environment, such as `KUBECONFIG`.
    ///
    /// # Panics
    /// As [`Sidecar::start`].
    pub async fn start_in(environment: &[(&str, OsString)], identity: &str, spec: &Value) -> Self {
        let folder = TempDir::with_prefix("pawl-sidecar-").expect("a folder can be made");
        let policies = folder.path().join("policies");
        fs::create_dir(&policies).expect("a folder can be made");
        let document = json!({
            "apiVersion": "pawl.dev/v1alpha1",
            "kind": "LockPolicy",
            "metadata": { "name": POLICY, "namespace": "e2e" },
            "spec": spec,
        });
        fs::write(policies.join("policy.json"), document.to_string())
            .expect("the folder can be written");
        Self::launch(environment, identity, folder, &policies).await
    }

    /// Starts one on a directory of policies that is somebody else's.
    ///
    /// # Panics
    /// As [`Sidecar::start`].
    pub async fn start_with(
        environment: &[(&str, OsString)],
        identity: &str,
        policies: &Path,
    ) -> Self {
        let folder = TempDir::with_prefix("pawl-sidecar-").expect("a folder can be made");
        Self::launch(environment, identity, folder, policies).await
    }

    async fn launch(
        environment: &[(&str, OsString)],
        identity: &str,
        folder: TempDir,
        policies: &Path,
    ) -> Self {
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (api, admin) = (address(), address());
        let clock = Clock::system();
        let start = clock.now();
        let program = Program {
            name: binary(),
            package: "pawl-sidecar: cargo build -p pawl-sidecar",
        };
        let policies = policies.display().to_string();
        let (listen, admin_at) = (api.to_string(), admin.to_string());
        let arguments = [
            "--policies",
            &policies,
            "--listen",
            &listen,
            "--admin",
            &admin_at,
            "--identity",
            identity,
        ];
        let log = folder.path().join("log");
        let process = Process::start(program, arguments, environment, None, &log);
        let mut sidecar = Self {
            process,
            api,
            admin,
            ready_after: Duration::ZERO,
            _folder: folder,
        };
        while !sidecar.is_ready().await {
            assert!(
                !sidecar.process.has_ended(),
                "the sidecar ended: {}",
                sidecar.log()
            );
            let waited = clock.now().saturating_since(start);
            assert!(
                waited < PATIENCE,
                "the sidecar is not ready: {}",
                sidecar.log()
            );
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        sidecar.ready_after = clock.now().saturating_since(start);
        sidecar
    }

    /// Ready, and its API can be reached.
    async fn is_ready(&self) -> bool {
        let Ok(mut admin) = Connection::open(self.admin).await else {
            return false;
        };
        let answer = admin.send(Method::GET, "/readyz", Bytes::new()).await;
        matches!(answer, Ok((StatusCode::OK, _))) && Connection::open(self.api).await.is_ok()
    }

    /// Kills it as `kill -9` does, and starts another in its place, with the same policy at other addresses.
    ///
    /// # Panics
    /// As [`Sidecar::start`].
    pub async fn replaced(self, spec: &Value) -> Self {
        self.process.kill();
        Self::start(spec).await
    }

    /// The URL of the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The path of a key's lock.
    pub fn lock(key: &str) -> String {
        format!("/v1/locks/{POLICY}/{key}")
    }

    /// A connection to the API.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn connect(&self) -> Result<Connection, Error> {
        Connection::open(self.api).await
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How much memory of it is resident, in bytes.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn resident(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line
            .and_then(|rest| rest.split_whitespace().next())
            .expect("Linux tells it");
        kibibytes.parse::<u64>().expect("a number") * 1024
    }
}

/// The binary that was built with the running program: beside it, or a folder up from a test.
fn binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| {
        let program = std::env::current_exe().expect("a program knows where it is");
        let folders = program.ancestors().skip(1).take(2);
        let mut candidates = folders.map(|folder| folder.join("pawl-sidecar"));
        let found = candidates.find(|candidate| candidate.is_file());
        found
            .unwrap_or_else(|| "pawl-sidecar".into())
            .display()
            .to_string()
    })
}
