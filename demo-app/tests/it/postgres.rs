//! A Postgres server of the test's own.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::support::{Running, free_port, until};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A running server; ended, and its files deleted, when dropped.
pub(crate) struct Server {
    process: Running,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server on a free port of the loopback.
    pub(crate) async fn start() -> Self {
        assert!(
            Path::new(BIN).join("initdb").exists(),
            "this test needs Postgres: apt-get install -y --no-install-recommends postgresql"
        );
        let dir = new_cluster();
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let port = free_port();
        let process = as_postgres("postgres")
            .args([
                "-D",
                data,
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
            ])
            .args([
                "-c",
                "unix_socket_directories=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=60",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            process: Running(process),
            port,
            _dir: dir,
        };
        until("Postgres is ready", async || {
            let mut probe = as_postgres("pg_isready");
            probe.args([
                "-q",
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-U",
                "bank",
                "-d",
                "postgres",
            ]);
            probe.status().unwrap().success()
        })
        .await;
        server
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://bank@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT: ends all sessions and shuts down; SIGKILL alone would leave its helpers behind. `setpriv` becomes
        // the server, so the process that was started is the server itself.
        let pid = i32::try_from(self.process.0.id())
            .ok()
            .and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::INT));
        let _ = self.process.0.wait();
    }
}

/// An empty cluster in a directory of its own.
fn new_cluster() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // The server refuses to run as root, and must reach its files as another user.
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    if geteuid().is_root() {
        for path in [dir.path(), &data] {
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(path)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }
    let data = data.to_str().unwrap();
    let made = as_postgres("initdb")
        .args([
            "-D",
            data,
            "-U",
            "bank",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    dir
}

/// One of the server's programs, as the user `postgres` when we are root.
fn as_postgres(program: &str) -> Command {
    let path = Path::new(BIN).join(program);
    if !geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(path)
        .current_dir("/");
    command
}
