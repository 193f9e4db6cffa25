//! A sidecar process to measure.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hyper::{Method, StatusCode};
use pawl_kit::clock::Clock;
use tempfile::TempDir;

use crate::{Error, http::Connection};

/// The policy's name in every sidecar here.
pub const POLICY: &str = "bench";

/// A running sidecar. Dropping it ends the process.
#[derive(Debug)]
pub struct Sidecar {
    process: Child,
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where its admin server listens.
    pub admin: SocketAddr,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
    _folder: TempDir,
}

impl Sidecar {
    /// Starts `binary` with one policy whose `spec` is given as JSON, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start, or is not ready within 10 s.
    pub async fn start(binary: &Path, spec: &serde_json::Value) -> Result<Self, Error> {
        let folder = TempDir::new()?;
        let policy = serde_json::json!({
            "apiVersion": "pawl.dev/v1alpha1",
            "kind": "LockPolicy",
            "metadata": { "name": POLICY, "namespace": "bench" },
            "spec": spec,
        });
        fs::write(folder.path().join("policy.json"), serde_json::to_vec(&policy)?)?;
        let (api, admin) = (free_address()?, free_address()?);
        let clock = Clock::system();
        let start = clock.now();
        let process = Command::new(binary)
            .arg("--policies")
            .arg(folder.path())
            .args(["--listen", &api.to_string(), "--admin", &admin.to_string(), "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}; build it by `cargo build --release -p pawl-sidecar`", binary.display()))?;
        let mut sidecar =
            Self { process, api, admin, ready_after: Duration::ZERO, _folder: folder };
        loop {
            if let Ok(mut connection) = Connection::open(admin).await
                && let Ok((StatusCode::OK, _)) =
                    connection.send(Method::GET, "/readyz", bytes::Bytes::new()).await
            {
                sidecar.ready_after = clock.now().saturating_since(start);
                return Ok(sidecar);
            }
            if let Some(status) = sidecar.process.try_wait()? {
                return Err(format!("the sidecar ended with {status} before it was ready").into());
            }
            if clock.now().saturating_since(start) > Duration::from_secs(10) {
                return Err("the sidecar was not ready within 10 s".into());
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How much memory of it is resident, in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn resident(&self) -> Result<u64, Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmRSS in /proc")?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary that was built beside this one.
///
/// # Errors
/// If this program's own place is not known.
pub fn built_beside() -> Result<PathBuf, Error> {
    Ok(std::env::current_exe()?.with_file_name("pawl-sidecar"))
}

/// A loopback address that was free a moment ago.
fn free_address() -> Result<SocketAddr, Error> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
