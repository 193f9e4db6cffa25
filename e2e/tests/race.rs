//! `make race` with the real sidecar, on every backend, and with the faults that must not cost money.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use pawl_e2e::server::{
    postgres::{PostgresOptions, PostgresServer},
    redis::{RedisOptions, RedisServer},
};
use pawl_kit::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a race may take, on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A race that runs.
struct Race {
    child: Child,
    out: TempDir,
}

impl Race {
    fn start(backend: &str, arguments: &[&str]) -> Self {
        let out = TempDir::with_prefix("pawl-race-").unwrap();
        let demo = beside("pawl-demo");
        let sidecar = beside("pawl-sidecar");
        let mut command = Command::new(&demo);
        command.args(["race", "--backend", backend, "--out", path(out.path())]);
        command
            .args(["--sidecar-bin", path(&sidecar)])
            .args(arguments);
        command.stdin(Stdio::null());
        for stream in [Command::stdout, Command::stderr] {
            stream(
                &mut command,
                fs::File::options()
                    .create(true)
                    .append(true)
                    .open(out.path().join("said"))
                    .unwrap(),
            );
        }
        let child = command.spawn().unwrap();
        Self { child, out }
    }

    /// What it said up to now.
    fn said(&self) -> String {
        fs::read_to_string(self.out.path().join("said")).unwrap_or_default()
    }

    /// Waits until the large round under the sidecars' locks is in its midst: some deductions are done, and at least six
    /// are to come, one after another.
    fn until_it_locks(&self) {
        let log = self.out.path().join("logs/bank-sidecar-1.log");
        wait_for("the round under locks", || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let bank = log
                .split("url=\"http://")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            let overview = bank
                .and_then(|bank| get(bank, "/api/overview"))
                .unwrap_or_default();
            let accounts = overview["accounts"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            accounts.iter().any(|account| {
                let name = account["userId"].as_str().unwrap_or_default();
                name.contains("-sidecar-10-") && account["deductions"].as_i64() > Some(1)
            })
        });
    }

    /// The processes of its sidecars.
    fn sidecars(&self) -> Vec<Pid> {
        let parent = format!(" {} ", self.child.id());
        let pids = fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let ours = pids.filter(|pid| {
            let read =
                |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let stat = read("stat");
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            read("comm").starts_with("pawl-sidecar")
                && after_name
                    .get(2..)
                    .is_some_and(|rest| rest.starts_with(&parent))
        });
        ours.filter_map(Pid::from_raw).collect()
    }

    /// Its exit code and `race.json`.
    fn ended(mut self) -> (i32, Value, String) {
        wait_for("the race to end", || {
            self.child.try_wait().unwrap().is_some()
        });
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let said = self.said();
        let report = fs::read_to_string(self.out.path().join("race.json"));
        let report = report.unwrap_or_else(|error| panic!("no race.json: {error}\n{said}"));
        (code, serde_json::from_str(&report).unwrap(), said)
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        // Both fail only when it has ended; its children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::system();
    let asked = clock.now();
    while !condition() {
        assert!(
            clock.now().saturating_since(asked) < PATIENCE,
            "waited for {what} in vain"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// The JSON at a bank's path, if it answers.
fn get(bank: &str, path: &str) -> Option<Value> {
    let mut socket = TcpStream::connect(bank).ok()?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {bank}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A binary that was built with this test.
fn beside(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join(name);
    assert!(
        binary.is_file(),
        "this test needs {}: cargo build -p {name}",
        binary.display()
    );
    binary
}

/// Plays all acts; each must pass.
fn passes(backend: &str, kind: &str, orders: &[&str]) {
    let (code, report, said) = Race::start(backend, &[]).ended();
    assert_eq!(code, 0, "{said}");
    assert_eq!(report["backend"], kind);
    assert_eq!(report["failures"], Value::Array(vec![]), "{said}");
    let acts = &report["acts"];
    let rows = |act: &str| acts[act].as_array().map_or(0, Vec::len);
    let counts = ["race", "crash", "stall", "queue", "overhead"].map(rows);
    assert_eq!(counts, [8, 1, 4, orders.len(), 2], "{acts}");
    let played: Vec<_> = acts["queue"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["order"].as_str().unwrap())
        .collect();
    assert_eq!(played, orders);
}

#[test]
fn memory() {
    passes("memory", "memory", &["Fifo", "Any"]);
}

#[test]
fn redis() {
    let server = RedisServer::start(RedisOptions::default());
    passes(&server.url(), "redis", &["Fifo", "Any"]);
}

#[test]
fn redlock_on_five_nodes() {
    let nodes: Vec<_> = (0..5)
        .map(|_| RedisServer::start(RedisOptions::default()))
        .collect();
    let urls: Vec<String> = nodes.iter().map(RedisServer::url).collect();
    passes(&format!("redlock:{}", urls.join(",")), "redlock", &["Any"]);
}

#[test]
fn postgres_advisory() {
    let server = PostgresServer::start(PostgresOptions::default());
    let url = server.url().replace("//", "//postgres@");
    passes(&url, "postgres", &["Fifo", "Any"]);
}

#[test]
fn postgres_row() {
    let server = PostgresServer::start(PostgresOptions::default());
    let url = server.url().replace("//", "//postgres@") + "?mode=Row";
    passes(&url, "postgres", &["Fifo", "Any"]);
}

/// Does something bad while deductions are made under locks; no update may be lost, and all that can be paid is paid.
fn loses_nothing(fault: impl FnOnce(&RedisServer, &Race)) {
    let server = RedisServer::start(RedisOptions::default());
    let race = Race::start(&server.url(), &["--act", "race", "--think", "60ms"]);
    race.until_it_locks();
    fault(&server, &race);
    let (code, report, said) = race.ended();
    assert_eq!(code, 0, "{said}");
    let rows = report["acts"]["race"].as_array().unwrap().iter();
    let locked: Vec<&Value> = rows.filter(|row| row["mode"] == "sidecar").collect();
    assert_eq!(locked.len(), 2);
    for row in &locked {
        assert_eq!(
            (row["lostUpdates"].as_i64(), &row["expected"]),
            (Some(0), &row["actual"]),
            "{said}"
        );
    }
    // The fault bit: somebody had to wait for a ttl, or for the server.
    let slowest = locked
        .iter()
        .filter_map(|row| row["p99Ms"].as_f64())
        .fold(0.0, f64::max);
    assert!(slowest > 3000.0, "the fault hit nobody: {said}");
}

#[test]
fn killed_sidecars_lose_nothing() {
    loses_nothing(|_, race| {
        // All of them, so that whoever holds is among them.
        for pid in race.sidecars() {
            kill_process(pid, Signal::KILL).unwrap();
        }
        wait_for("them to be started again", || {
            race.said().contains("starting it again")
        });
    });
}

#[test]
fn sidecars_that_are_stopped_beyond_their_ttl_lose_nothing() {
    loses_nothing(|_, race| {
        let stopped = race.sidecars();
        assert_eq!(stopped.len(), 10);
        for pid in &stopped {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        thread::sleep(Duration::from_secs(12));
        for pid in stopped {
            kill_process(pid, Signal::CONT).unwrap();
        }
    });
}

#[test]
fn a_backend_that_is_stopped_loses_nothing() {
    loses_nothing(|server, _| {
        server.pause();
        thread::sleep(Duration::from_secs(12));
        server.resume();
    });
}
