//! A `pgbouncer` of Debian's package before a Postgres.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpStream},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use super::postgres::{
    PostgresServer, as_server_user, free_port, missing, path, signal_process, spawn, workplace,
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running pooler. Ended before the server it stands before.
pub struct PgBouncer {
    folder: TempDir,
    process: Child,
    port: u16,
}

impl PgBouncer {
    /// Starts a pooler before `server` in `pool_mode` (`session`, `transaction`) with this many server connections.
    ///
    /// # Panics
    /// If the package is missing, with the command that installs it, or it does not start.
    pub fn start(server: &PostgresServer, pool_mode: &str, pool_size: u32) -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = free_port(address);
        let folder = workplace();
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host={address} port={} dbname=postgres user=postgres\n\
             [pgbouncer]\nlisten_addr = {address}\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\n\
             max_client_conn = 200\n",
            server.port()
        );
        fs::write(&settings, text).expect("the settings can be written");
        let mut command = as_server_user("pgbouncer");
        command
            .arg(path(&settings))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("the log can be made"));
        let mut pooler = Self {
            process: spawn(command),
            folder,
            port,
        };
        pooler.wait_until_it_listens();
        pooler
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        format!("postgres://127.0.0.1:{}/postgres", self.port)
    }

    fn wait_until_it_listens(&mut self) {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if self
                .process
                .try_wait()
                .expect("it can be waited for")
                .is_some()
            {
                missing("pgbouncer", &log);
            }
            assert!(
                start.elapsed() < PATIENCE,
                "pgbouncer does not listen: {log}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        signal_process(self.process.id(), Signal::KILL);
        drop(self.process.wait());
    }
}
