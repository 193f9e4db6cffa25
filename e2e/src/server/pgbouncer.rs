//! A `pgbouncer` of Debian's package before a Postgres.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Process, Program, free_port,
    postgres::{PostgresServer, path, server_user, workplace},
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running pooler.
pub struct PgBouncer {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts a pooler before `server` in `pool_mode` (`session`, `transaction`) with this many server connections.
    ///
    /// # Panics
    /// If the package is missing, with the command that installs it, or it does not start.
    pub fn start(server: &PostgresServer, pool_mode: &str, pool_size: u32) -> Self {
        let port = free_port();
        let folder = workplace();
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\n\
             max_client_conn = 200\n",
            server.port()
        );
        fs::write(&settings, text).expect("the settings can be written");
        let process = Process::start(
            Program {
                name: "pgbouncer",
                package: "pgbouncer",
            },
            [path(&settings)],
            &[],
            server_user().map(|_| "postgres"),
            &folder.path().join("log"),
        );
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let is_patient = start.elapsed() < PATIENCE && !process.has_ended();
            assert!(is_patient, "pgbouncer does not listen: {}", process.log());
            thread::sleep(Duration::from_millis(20));
        }
        Self {
            port,
            _process: process,
            _folder: folder,
        }
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        format!("postgres://127.0.0.1:{}/postgres", self.port)
    }
}
