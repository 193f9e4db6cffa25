//! What each recipe must do, whatever it is written in.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use pawl_e2e::{
    server::postgres::{PostgresOptions, PostgresServer},
    sidecar::Sidecar,
};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tempfile::TempDir;

use super::program::{Language, Recipe};

const PATIENCE: Duration = Duration::from_secs(60);

async fn sidecar() -> Sidecar {
    Sidecar::start(&json!({ "backend": { "memory": {} } })).await
}

fn recipe(language: Language, recipe: Recipe, sidecar: &Sidecar, arguments: &[&str]) -> Command {
    let mut command = language.command(recipe);
    command
        .args(arguments)
        .env("PAWL_URL", sidecar.url())
        .stdin(Stdio::null());
    command
}

/// A recipe that ran to its end.
fn run(mut command: Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    format!(
        "{status}: {} {}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

/// A recipe that runs on, with everything that it started. Dropping it kills them all.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        // A group of its own: a script's `curl` must die with it.
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = child.stdout.take().expect("it is piped");
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn next_line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("it says something within a minute")
    }

    fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// An executable script.
fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("the folder can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    file
}

pub(crate) async fn cron_singleton(language: Language) {
    let sidecar = sidecar().await;
    let folder = TempDir::new().expect("a folder can be made");
    let (begun, go_on) = (folder.path().join("begun"), folder.path().join("go-on"));
    let job = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done",
        begun.display(),
        go_on.display()
    );
    let job = script(folder.path(), "job", &job).display().to_string();
    let again = script(folder.path(), "again", "echo ran")
        .display()
        .to_string();
    let start = |job: &str| {
        recipe(
            language,
            Recipe::CronSingleton,
            &sidecar,
            &["nightly-report", job],
        )
    };

    let first = Running::start(start(&job));
    for _ in 0..1_200 {
        if begun.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.exists(), "the first run begins");
    let second = run(start(&again));
    assert!(second.status.success(), "{}", said(&second));
    assert!(said(&second).contains("skipped"), "{}", said(&second));
    assert!(!said(&second).contains("ran"), "{}", said(&second));
    fs::write(go_on, "").expect("the folder can be written");
    let mut first = first;
    assert!(
        first.child.wait().expect("it ends").success(),
        "the first run lasts to its end"
    );
    let third = run(start(&again));
    assert!(
        third.status.success() && said(&third).contains("ran"),
        "{}",
        said(&third)
    );
}

pub(crate) async fn leader_election(language: Language) {
    let sidecar = sidecar().await;
    let start = || {
        Running::start(recipe(
            language,
            Recipe::LeaderElection,
            &sidecar,
            &["scheduler"],
        ))
    };
    let first = start();
    assert_eq!(first.next_line(), "leading");
    let second = start();
    assert!(
        second.is_silent_for(Duration::from_millis(1_500)),
        "one leader at a time"
    );
    drop(first);
    assert_eq!(
        second.next_line(),
        "leading",
        "the next leads when the first is dead"
    );
}

pub(crate) async fn migration_lock(language: Language) {
    let sidecar = sidecar().await;
    let folder = TempDir::new().expect("a folder can be made");
    let (done, log) = (folder.path().join("done"), folder.path().join("log"));
    let is_current = script(
        folder.path(),
        "is-current",
        &format!("test -e {}", done.display()),
    );
    let migrate = format!(
        "echo migrated >> {}; sleep 0.3; touch {}",
        log.display(),
        done.display()
    );
    let migrate = script(folder.path(), "migrate", &migrate);
    let (is_current, migrate) = (
        is_current.display().to_string(),
        migrate.display().to_string(),
    );
    let replicas: Vec<_> = (0..3)
        .map(|_| {
            let arguments = ["schema", is_current.as_str(), migrate.as_str()];
            let mut command = recipe(language, Recipe::MigrationLock, &sidecar, &arguments);
            command.stdout(Stdio::null()).spawn().expect("it starts")
        })
        .collect();
    for mut replica in replicas {
        assert!(replica.wait().expect("it ends").success());
    }
    assert_eq!(
        fs::read_to_string(log).expect("it was migrated"),
        "migrated\n",
        "once"
    );
}

pub(crate) async fn fenced_write(language: Language) {
    let sidecar = sidecar().await;
    let database = PostgresServer::start(PostgresOptions::default());
    database.sql(
        "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL, fence bigint NOT NULL DEFAULT 0);
         INSERT INTO account VALUES (42, 1000);",
    );
    let start = |think: &str| {
        let mut command = recipe(language, Recipe::FencedWrite, &sidecar, &["42", "-100"]);
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", database.port());
        let jdbc = format!(
            "jdbc:postgresql://127.0.0.1:{}/postgres?user=postgres",
            database.port()
        );
        command
            .env("DATABASE_URL", url)
            .env("JDBC_URL", jdbc)
            .env("THINK_SECONDS", think);
        command
    };
    let quick = run(start("0"));
    assert!(
        quick.status.success() && said(&quick).contains("balance 900"),
        "{}",
        said(&quick)
    );

    // It reads 900, sleeps past its ttl, and another takes the lock and writes meanwhile.
    let slow = thread::spawn({
        let command = start("12");
        move || run(command)
    });
    let mut connection = sidecar.connect().await.expect("the sidecar listens");
    for _ in 0..1_200 {
        let path = Sidecar::lock("account/42");
        let (_, view) = connection
            .send(hyper::Method::GET, &path, "")
            .await
            .expect("it answers");
        if String::from_utf8_lossy(&view).contains("\"held\":true") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = run(start("0"));
    assert!(
        second.status.success() && said(&second).contains("balance 800"),
        "{}",
        said(&second)
    );
    let slow = slow.join().expect("it ends");
    assert_eq!(
        slow.status.code(),
        Some(3),
        "the late write is refused: {}",
        said(&slow)
    );
    assert_eq!(database.sql("SELECT balance FROM account"), ["800"]);
}
