//! A sidecar as a process, on free ports, with policies of memory.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

use crate::raw::{Answer, Raw};

/// Longer than anything takes on a machine that is busy.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The policy of most tests.
pub(crate) const POLICY: &str = "\
backend: {memory: {}}
acquire: {maxWait: 1m}
lease: {ttl: 10s, maxTtl: 5m}
keys: {allow: ['**']}
";

/// A sidecar that ends with its test.
pub(crate) struct Sidecar {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: mpsc::Receiver<String>,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sidecar {
    /// With the policy `p`.
    pub(crate) fn start() -> Self {
        Self::with(&[("p", POLICY)], |_| ())
    }

    /// With these policies (name and spec), and changes to the command.
    pub(crate) fn with(policies: &[(&str, &str)], change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("policies");
        std::fs::create_dir(&directory).unwrap();
        for (name, spec) in policies {
            let spec = spec.replace('\n', "\n  ");
            let document = format!(
                "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {{name: {name}}}\nspec:\n  {spec}"
            );
            std::fs::write(directory.join(format!("{name}.yaml")), document).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_pawl-sidecar"));
        command.env_clear();
        command.arg("--policies").arg(&directory);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.env("PAWL_IDENTITY", "tester");
        change(&mut command);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(process.stderr.take().unwrap());
        let mut sidecar = Self {
            process,
            address: SocketAddr::from(([0; 4], 0)),
            admin: SocketAddr::from(([0; 4], 0)),
            log,
            folder,
        };
        let api = sidecar.logged("lock API listening address=http://127");
        sidecar.address = address(api.split("http://").nth(1));
        let admin = sidecar.logged("admin server listening");
        sidecar.admin = address(admin.split("address=").nth(1));
        for _ in policies {
            sidecar.logged("the backend is ready");
        }
        sidecar
    }

    /// Waits for a line of the log.
    pub(crate) fn logged(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(LONG);
            let line = line.unwrap_or_else(|_| panic!("{text} was not logged"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// A connection.
    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.connect().call(method, path, body)
    }

    /// A grant.
    pub(crate) fn acquire(&self, path: &str, body: &str) -> Value {
        let answer = self.call("POST", &format!("/v1/locks/{path}"), body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// How many callers wait for a key, as the policy's list counts them.
    pub(crate) fn waiters(&self, policy: &str) -> u64 {
        let list = self.call("GET", &format!("/v1/locks/{policy}"), "").json();
        list["waiters"].as_u64().unwrap()
    }

    /// Waits for a condition.
    pub(crate) fn eventually(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let clock = pawl_kit::clock::Clock::system();
        let start = clock.now();
        while !condition(self) {
            let waited = clock.now().saturating_since(start);
            assert!(waited < LONG, "{what}: not after {waited:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// The Unix socket that `--socket` names in tests.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("pawl.sock")
    }
}

fn address(text: Option<&str>) -> SocketAddr {
    text.unwrap().trim().parse().unwrap()
}

fn lines(log: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
