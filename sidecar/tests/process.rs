//! The program as a process: how it starts, what it says, how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is test")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

const LONG: Duration = Duration::from_secs(30);

/// A sidecar that is ended with the test, whatever happens to it.
struct Sidecar {
    child: Child,
    log: mpsc::Receiver<String>,
    admin: SocketAddr,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On free ports, by the environment: a test's flags win over it.
fn command(policies: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pawl-sidecar"));
    command.env_clear();
    command.env("PAWL_POLICIES", policies);
    command.env("PAWL_ADMIN", "127.0.0.1:0");
    command.env("PAWL_LISTEN", "127.0.0.1:0");
    command
}

impl Sidecar {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let admin = find(&log, "admin server listening");
        let admin = admin
            .split("address=")
            .nth(1)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        Self { child, log, admin }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

fn lines(log: ChildStderr) -> mpsc::Receiver<String> {
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

/// Waits for a line of the log.
fn find(log: &mpsc::Receiver<String>, text: &str) -> String {
    loop {
        let line = log
            .recv_timeout(LONG)
            .unwrap_or_else(|_| panic!("{text} was not logged"));
        if line.contains(text) {
            return line;
        }
    }
}

fn directory(policies: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in policies {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

const MEMORY: &str = "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {name: p}\nspec: {backend: {memory: {}}}\n";

#[test]
fn sigterm_ends_it_cleanly() {
    let dir = directory(&[("p.yaml", MEMORY)]);
    let mut sidecar = Sidecar::start(command(dir.path()));
    find(&sidecar.log, "policy loaded");
    assert_eq!(sidecar.get("/livez").0, 200);
    sidecar.signal("TERM");
    assert_eq!(sidecar.child.wait().unwrap().code(), Some(0));
    find(&sidecar.log, "draining the locks");
}

#[test]
fn bad_policies_and_dead_backends_do_not_keep_it_from_starting() {
    let redis = MEMORY.replace("memory: {}", "redis: {url: \"redis://127.0.0.1:1\"}");
    let dir = directory(&[("bad.yaml", "spec: ["), ("p.yaml", &redis)]);
    let sidecar = Sidecar::start(command(dir.path()));
    find(&sidecar.log, "the file is not served");
    find(&sidecar.log, "no locks are given");
    let (status, body) = sidecar.get("/readyz");
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains(r#""name":"policy/p","reason":"Unreachable"#),
        "{body}"
    );
    let (status, body) = sidecar.get("/status");
    assert_eq!(status, 200);
    assert!(body.contains(r#""file":"bad.yaml""#), "{body}");
    let (_, metrics) = sidecar.get("/metrics");
    let failed = r#"pawl_backend_errors_total{backend="redis",operation="check",policy="p",reason="connection"}"#;
    assert!(metrics.contains(failed), "{metrics}");
}

#[test]
fn no_directory_yet_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(command(&dir.path().join("later")));
    find(&sidecar.log, "cannot be read");
    let path = dir.path().join("later");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("p.yaml"), MEMORY).unwrap();
    find(&sidecar.log, "policy loaded");
}

#[test]
fn what_cannot_be_used_ends_it_with_64_before_anything_is_bound() {
    let dir = directory(&[]);
    for (flag, value) in [
        ("--listen", "0.0.0.0:4600"),
        ("--admin", "nowhere"),
        ("--drain-timeout", "soon"),
        ("--log-format", "xml"),
    ] {
        let output = command(dir.path()).args([flag, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{flag}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.starts_with(&format!("pawl-sidecar: {flag} (PAWL_")),
            "{text}"
        );
    }
    let output = Command::new(env!("CARGO_BIN_EXE_pawl-sidecar"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let help = command(dir.path()).arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("Exit codes:")
    );
}

#[test]
fn an_address_in_use_ends_it_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = directory(&[]);
    let admin = taken.local_addr().unwrap().to_string();
    let output = command(dir.path())
        .args(["--admin", &admin])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot be bound"), "{text}");
}

#[test]
fn the_token_is_there_when_it_listens() {
    let dir = directory(&[("p.yaml", MEMORY)]);
    let token = dir.path().join("token");
    let mut command = command(dir.path());
    command.arg("--token-file").arg(&token);
    let _sidecar = Sidecar::start(command);
    assert_eq!(std::fs::read_to_string(token).unwrap().len(), 64);
}
