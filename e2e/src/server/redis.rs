//! A Redis server.

use std::{
    ffi::OsString,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::Duration,
};

use redis::{Connection, FromRedisValue, RedisResult};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    Process, Program,
    certs::{Authority, Identity},
    free_port,
};

const PROGRAM: Program = Program {
    name: "redis-server",
    package: "redis-server",
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// Whether it keeps its data in an append-only file, written through at every command.
    pub appendonly: bool,
    /// TLS on a second port: the authority whose clients are let in (`None`: all are), and its identity.
    pub tls: Option<(Option<String>, Identity)>,
    /// The port of the server that it is a replica of.
    pub replica_of: Option<u16>,
    /// Further directives, such as `maxmemory 3mb`, or `user app on >secret ~pawl:* &pawl:* +@all`.
    pub directives: Vec<String>,
    /// Further environment, such as `LD_PRELOAD`.
    pub environment: Vec<(&'static str, OsString)>,
}

/// A Redis server on ports of its own.
pub struct RedisServer {
    options: Arc<RedisOptions>,
    port: u16,
    tls_port: u16,
    folder: TempDir,
    process: Mutex<Option<Process>>,
}

impl RedisServer {
    /// Starts one.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(options: RedisOptions) -> Self {
        let options = Arc::new(options);
        for _ in 0..5 {
            let server = Self {
                port: free_port(),
                tls_port: free_port(),
                folder: TempDir::with_prefix("pawl-redis-").expect("a folder can be made"),
                options: Arc::clone(&options),
                process: Mutex::new(None),
            };
            if server.launch() {
                return server;
            }
            eprintln!(
                "redis-server ended at once, trying other ports: {}",
                server.log()
            );
        }
        panic!("redis-server does not start");
    }

    /// Its port on 127.0.0.1, in plain text.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn id(&self) -> i32 {
        self.process().as_ref().expect("the server runs").id()
    }

    /// Its URL, in plain text.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its URL with TLS, by the name `localhost`.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port)
    }

    /// Stops it in its tracks.
    pub fn pause(&self) {
        self.with(|process| process.signal(Signal::STOP));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.with(|process| process.signal(Signal::CONT));
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        drop(self.process().take());
    }

    /// Starts it again after [`RedisServer::kill`], on the same ports and data.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_again(&self) {
        assert!(
            self.launch(),
            "redis-server does not start again: {}",
            self.log()
        );
    }

    /// Runs a command as the administrator on a connection of its own.
    ///
    /// # Panics
    /// If the server cannot be reached or answers with an error.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_run(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs a command as the administrator on a connection of its own.
    ///
    /// # Errors
    /// The server's, and those of the connection.
    pub fn try_run<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        command(words).query(&mut self.admin()?)
    }

    /// Ends all clients' connections but those of replicas and of the administrator.
    pub fn kill_clients(&self) {
        let _: i64 = self.run(&["CLIENT", "KILL", "TYPE", "normal"]);
        let _: i64 = self.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }

    /// How often commands ran, by name, since the start or `CONFIG RESETSTAT`, with those that were answered by an error.
    pub fn calls(&self, name: &str) -> u64 {
        let stats: String = self.run(&["INFO", "commandstats"]);
        let prefix = format!("cmdstat_{name}:calls=");
        stats
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.split(',').next())
            .map_or(0, |number| number.parse().expect("a number"))
    }

    /// What it said.
    pub fn log(&self) -> String {
        self.process()
            .as_ref()
            .map(Process::log)
            .unwrap_or_default()
    }

    fn with(&self, act: impl FnOnce(&Process)) {
        act(self.process().as_ref().expect("the server runs"));
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admin(&self) -> RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))
    }

    /// Starts the process and waits until it answers; false if it ended.
    fn launch(&self) -> bool {
        let folder = self.folder.path();
        let config = folder.join("redis.conf");
        std::fs::write(&config, self.directives().join("\n")).expect("the folder can be written");
        let environment = &self.options.environment;
        let process = Process::start(PROGRAM, [&config], environment, None, &folder.join("log"));
        let start = Instant::now();
        loop {
            if process.has_ended() {
                return false;
            }
            // A server with a password answers too.
            let answer = self
                .admin()
                .and_then(|mut admin| command(&["PING"]).query::<String>(&mut admin));
            match answer {
                Ok(_) => break,
                Err(error) if matches!(error.code(), Some("NOAUTH" | "NOPERM")) => break,
                Err(_) => sleep(Duration::from_millis(5)),
            }
            assert!(
                start.elapsed() < PATIENCE,
                "redis-server does not answer: {}",
                process.log()
            );
        }
        *self.process() = Some(process);
        true
    }

    fn directives(&self) -> Vec<String> {
        let mut lines = vec![
            format!("port {}", self.port),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", self.folder.path().display()),
            "save \"\"".to_owned(),
            "enable-debug-command yes".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        if self.options.appendonly {
            lines.extend(["appendonly yes", "appendfsync always"].map(str::to_owned));
        }
        if let Some((clients, identity)) = &self.options.tls {
            let folder = self.folder.path();
            identity.write(folder, "server");
            let path = |name: &str| folder.join(name).display().to_string();
            let authority = clients
                .clone()
                .unwrap_or_else(|| Authority::new("nobody").certificate());
            std::fs::write(folder.join("clients.crt"), authority)
                .expect("the folder can be written");
            lines.extend([
                format!("tls-port {}", self.tls_port),
                format!("tls-cert-file {}", path("server.crt")),
                format!("tls-key-file {}", path("server.key")),
                format!("tls-ca-cert-file {}", path("clients.crt")),
                format!(
                    "tls-auth-clients {}",
                    if clients.is_some() { "yes" } else { "no" }
                ),
            ]);
        }
        if let Some(primary) = self.options.replica_of {
            lines.push(format!("replicaof 127.0.0.1 {primary}"));
        }
        lines.extend(self.options.directives.iter().cloned());
        lines
    }
}

fn command(words: &[&str]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}
