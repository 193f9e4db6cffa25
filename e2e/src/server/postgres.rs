//! A Postgres of Debian's package, on a free port of the loopback.
//!
//! Each server has its own data, copied from a template that is made once a machine. Server programs refuse to run as
//! root: then they run as the user `postgres` that the package made.

#![expect(
    clippy::panic,
    reason = "a test that cannot have its server fails, with the reason"
)]

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use pawl_lock::Ttl;
use pawl_sidecar::backend::{
    Scope,
    postgres::{Credentials, Endpoint, PostgresConfig, PostgresMode, SchemaName},
};
use rustix::{
    process::{Pid, Signal, getuid, kill_process},
    time::{ClockId, clock_gettime},
};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Process, Program, certs::Identity, free_port};

/// What to install when something is missing.
const INSTALL: &str = "apt-get install postgresql postgresql-client";

/// How long a server may take to start or end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is started.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Where it listens.
    pub address: IpAddr,
    /// How many connections it takes.
    pub max_connections: u32,
    /// Further settings for `postgresql.conf`: name and value.
    pub settings: Vec<(&'static str, String)>,
    /// The lines of `pg_hba.conf`; everybody is trusted by default.
    pub hba: String,
    /// Certificate and key of the server, and who signs its clients' certificates (PEM).
    pub tls: Option<(Identity, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            max_connections: 200,
            settings: Vec::new(),
            hba: "host all all all trust".to_owned(),
            tls: None,
        }
    }
}

/// A running server.
pub struct PostgresServer {
    folder: TempDir,
    options: PostgresOptions,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl PostgresServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// If the package is missing, with the command that installs it, or the server does not start.
    pub fn start(options: PostgresOptions) -> Self {
        let folder = workplace();
        let data = folder.path().join("data");
        // Copied by who runs the server, so that it owns the files.
        run(as_server_user("cp").args(["-a", path(template()), path(&data)]));
        let server = Self {
            port: free_port(),
            folder,
            options,
            process: Mutex::new(None),
        };
        server.configure();
        server.launch();
        server
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address for clients, without user and password.
    pub fn url(&self) -> String {
        format!("postgres://{}:{}/postgres", self.options.address, self.port)
    }

    /// Runs SQL as the superuser and answers with the rows as text, columns separated by `|`.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, sql: &str) -> Vec<String> {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, with what `psql` said if it fails.
    pub fn try_sql(&self, sql: &str) -> Result<Vec<String>, String> {
        let output = client("psql")
            .args(["-h", &self.options.address.to_string()])
            .args([
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                "postgres",
            ])
            .args(["-AtqX", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .unwrap_or_else(|error| missing("psql", &error));
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops all of its processes in their tracks.
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets them go on.
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Ends it as a crash would, without a checkpoint, and starts it again on the same port.
    pub fn crash_and_restart(&self) {
        self.crash();
        self.launch();
    }

    /// Ends it as a crash would.
    pub fn crash(&self) {
        self.end(Signal::QUIT);
    }

    /// Starts it again.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn launch(&self) {
        let data = self.folder.path().join("data");
        let process = Process::start(
            Program {
                name: server_program(),
                package: "postgresql",
            },
            ["-D", path(&data)],
            &[],
            server_user().map(|_| "postgres"),
            &self.folder.path().join("log"),
        );
        *self.lock() = Some(process);
        let start = Instant::now();
        while self.try_sql("SELECT").is_err() {
            let is_over = self.lock().as_ref().is_none_or(Process::has_ended);
            assert!(!is_over, "postgres did not start: {}", self.log());
            assert!(
                start.elapsed() < PATIENCE,
                "postgres does not answer: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn configure(&self) {
        let data = self.folder.path().join("data");
        let mut conf = format!(
            "listen_addresses = '{}'\nport = {}\nmax_connections = {}\n\
             superuser_reserved_connections = 2\nunix_socket_directories = ''\nfsync = off\n\
             full_page_writes = off\nshared_buffers = '16MB'\nmax_wal_size = '64MB'\n\
             dynamic_shared_memory_type = 'mmap'\nautovacuum_naptime = '5s'\nlog_min_messages = 'warning'\n",
            self.options.address, self.port, self.options.max_connections
        );
        for (name, value) in &self.options.settings {
            writeln!(conf, "{name} = '{value}'").expect("text can be written to");
        }
        if let Some(tls) = &self.options.tls {
            let (server, client_authority) = tls;
            self.write("server.crt", &server.certificate);
            self.write("server.key", &server.key);
            self.write("clients.crt", client_authority);
            conf.push_str(
                "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'clients.crt'\n",
            );
        }
        fs::write(data.join("postgresql.auto.conf"), conf).expect("the settings can be written");
        fs::write(data.join("pg_hba.conf"), &self.options.hba).expect("the rules can be written");
    }

    /// Writes a file that only the server may read into its data.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.folder.path().join("data").join(name);
        fs::write(&file, text).expect("the file can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        if let Some((user, group)) = server_user() {
            chown(&file, Some(user), Some(group)).expect("root may give files away");
        }
    }

    fn signal_all(&self, signal: Signal) {
        let Some(main) = self.lock().as_ref().map(Process::id) else {
            return;
        };
        // The main process first: it starts no others then.
        let mut processes = vec![main];
        processes.extend(children(main));
        for process in processes.into_iter().filter_map(Pid::from_raw) {
            // It may be gone already.
            kill_process(process, signal).ok();
        }
    }

    fn end(&self, signal: Signal) {
        let Some(process) = self.lock().take() else {
            return;
        };
        process.signal(signal);
        let start = Instant::now();
        while !process.has_ended() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.resume();
        self.end(Signal::QUIT);
    }
}

/// The configuration of a backend at this address, as the superuser, without TLS.
///
/// # Panics
/// If it is no address of a Postgres.
pub fn config(url: &str, mode: PostgresMode, scope: &Scope) -> PostgresConfig {
    PostgresConfig {
        endpoint: Endpoint::try_new(url).expect("it is an endpoint"),
        mode,
        schema: SchemaName::default(),
        scope: scope.clone(),
        identity: format!("test-{}", std::process::id()),
        ttl: Ttl::try_new(Duration::from_secs(10)).expect("it is a ttl"),
        credentials: Arc::new(|| {
            Ok(Credentials {
                username: Some("postgres".to_owned()),
                password: None,
            })
        }),
        tls: None,
        now: Arc::new(boot_clock),
    }
}

/// The time since boot.
///
/// # Panics
/// If the machine has no such clock.
pub fn boot_clock() -> pawl_lock::Instant {
    let time = clock_gettime(ClockId::Boottime);
    let part = |n: i64| u64::try_from(n).expect("the boot clock is not negative");
    pawl_lock::Instant::from_nanos(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
}

/// The folder of the package's newest version, `/usr/lib/postgresql/<version>`.
///
/// # Panics
/// If the package is missing, with the command that installs it.
pub fn home() -> &'static Path {
    let programs = programs();
    programs.parent().unwrap_or(programs)
}

/// Where the package put the server's programs, the newest version first.
fn programs() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten();
        versions
            .filter_map(|entry| {
                let version: u32 = entry.file_name().to_str()?.parse().ok()?;
                let programs = entry.path().join("bin");
                programs
                    .join("initdb")
                    .exists()
                    .then_some((version, programs))
            })
            .max()
            .map_or_else(
                || missing("postgres", &"it is not in /usr/lib/postgresql"),
                |found| found.1,
            )
    })
}

fn server_program() -> &'static str {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    path(FOUND.get_or_init(|| programs().join("postgres")))
}

/// A command as the user that servers run as.
fn as_server_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if server_user().is_some() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.arg("--").arg(program).current_dir("/");
    command
}

/// A folder that the server's user may work in. Those of processes that are gone are removed.
pub(super) fn workplace() -> TempDir {
    const PREFIX: &str = "pawl-e2e-postgres-";
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            let (process, _) = name.strip_prefix(PREFIX)?.split_once('.')?;
            process.parse::<u32>().ok()
        });
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Another test process may be at it too.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let folder = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}.", std::process::id()))
        .tempdir()
        .expect("a temporary folder can be made");
    if let Some((user, group)) = server_user() {
        chown(folder.path(), Some(user), Some(group)).expect("root may give folders away");
    }
    folder
}

fn missing(program: &str, why: &dyn std::fmt::Display) -> ! {
    panic!("{program} cannot be run ({why}): install it with `{INSTALL}`");
}

pub(super) fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// User and group `postgres` where this process is root: servers refuse to be.
pub(super) fn server_user() -> Option<(u32, u32)> {
    static FOUND: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if !getuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("there are users");
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let mut fields = line
            .unwrap_or_else(|| missing("postgres", &"there is no user postgres"))
            .split(':')
            .skip(2)
            .map(|id| id.parse().expect("an id is a number"));
        fields.next().zip(fields.next())
    })
}

/// A database as `initdb` makes it, shared by all test processes of this machine and user.
fn template() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let version = programs().parent().and_then(Path::file_name);
        let version = version
            .and_then(|name| name.to_str())
            .expect("it is a number");
        let user = getuid().as_raw();
        let template = std::env::temp_dir().join(format!("pawl-e2e-template-{version}-{user}"));
        if !template.exists() {
            let folder = workplace();
            let data = folder.path().join("data");
            let initdb = programs().join("initdb");
            run(as_server_user(path(&initdb)).args([
                "-D",
                path(&data),
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ]));
            // Whoever is first, wins; the others throw theirs away.
            drop(fs::rename(&data, &template));
        }
        template
    })
}

fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("PGHOST")
        .env_remove("PGUSER")
        .env_remove("PGDATABASE");
    command
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| missing("setpriv", &error));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The processes that a process started and that are still there.
fn children(of: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let process: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which is in parentheses: state and parent.
            let parent: i32 = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            (parent == of).then_some(process)
        })
        .collect()
}
