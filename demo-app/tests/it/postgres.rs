//! A Postgres server of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
        Self::start_with(new_cluster(), "").await
    }

    /// Starts a server that takes TLS connections only; returns the certificate's file, too.
    pub(crate) async fn start_tls() -> (Self, PathBuf) {
        let dir = new_cluster();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (dir.path().join("server.crt"), dir.path().join("server.key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let hba = "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 reject\n";
        std::fs::write(dir.path().join("data/pg_hba.conf"), hba).unwrap();
        give_to_postgres(&[&key]);
        let options = format!(
            "-c ssl=on -c ssl_cert_file={} -c ssl_key_file={}",
            certificate.display(),
            key.display()
        );
        (Self::start_with(dir, &options).await, certificate)
    }

    async fn start_with(dir: tempfile::TempDir, options: &str) -> Self {
        let port = free_port();
        let data = dir.path().join("data");
        let options = format!(
            "-D {} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off {options}",
            data.display()
        );
        let mut command = as_postgres("postgres");
        command.args(options.split_whitespace());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(command.spawn().unwrap());
        until("Postgres is ready", async || {
            let mut probe = as_postgres("pg_isready");
            probe.args(format!("-q -h 127.0.0.1 -p {port} -U bank -d postgres").split(' '));
            probe.status().unwrap().success()
        })
        .await;
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// Where it is; `mode` is the URL's `sslmode`.
    pub(crate) fn url(&self, mode: &str) -> String {
        format!(
            "postgres://bank@127.0.0.1:{}/postgres?sslmode={mode}",
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
    assert!(
        Path::new(BIN).join("initdb").exists(),
        "this test needs Postgres: apt-get install -y --no-install-recommends postgresql"
    );
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    give_to_postgres(&[dir.path(), &data]);
    let options = format!(
        "-D {} -U bank --auth=trust --no-sync -E UTF8 --locale=C",
        data.display()
    );
    let mut command = as_postgres("initdb");
    let made = command.args(options.split(' ')).output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    dir
}

/// The server refuses to run as root, and must reach its files as another user.
fn give_to_postgres(paths: &[&Path]) {
    if geteuid().is_root() {
        let given = Command::new("chown").arg("postgres").args(paths).status();
        assert!(given.unwrap().success());
    }
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
