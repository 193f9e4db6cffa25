//! Starts the demo's programs and asks them things.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Response};
use pawl_demo::clock;
use pawl_demo::race::ports::Ports;
use pawl_demo::wire::{Client, request};
use serde_json::Value;

pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A port of the loopback that nobody listens on.
pub(crate) fn free_port() -> u16 {
    // Kept for as long as the tests run, so that no two of them are given the same.
    static PORTS: LazyLock<Ports> = LazyLock::new(Ports::default);
    PORTS.free().unwrap()
}

/// `pawl-demo` with arguments, and without what the environment would add.
pub(crate) fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pawl-demo"));
    command.args(arguments).stdin(Stdio::null());
    for name in [
        "LOCK_MODE",
        "FENCING",
        "BACKEND",
        "RUST_LOG",
        "BANK_STORE",
        "RACE_STORE",
    ] {
        command.env_remove(name);
    }
    command
}

/// A child that is killed when the test ends, however it ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let asked = clock::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(asked.elapsed() < LIMIT, "it did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running bank.
pub(crate) struct Bank {
    pub(crate) process: Running,
    pub(crate) client: Client,
    pub(crate) url: String,
}

impl Bank {
    /// Starts a bank on a store and waits until it is ready.
    pub(crate) async fn start(store: &str, options: &[&str]) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{listen}");
        let mut command = demo(&["bank", "--listen", &listen, "--store", store]);
        command
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Running(command.spawn().unwrap());
        let client = Client::new(&url).unwrap();
        let asked = clock::now();
        while client
            .get("/readyz", LIMIT)
            .await
            .map(|a| a.status().as_u16())
            .ok()
            != Some(200)
        {
            if let Some(status) = process.0.try_wait().unwrap() {
                let mut words = String::new();
                process
                    .0
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut words)
                    .unwrap();
                panic!("the bank ended with {status}: {words}");
            }
            assert!(asked.elapsed() < LIMIT, "the bank was not ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self {
            process,
            client,
            url,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        read(&self.client.get(path, LIMIT).await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, &body.to_string(), &[]).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&'static str, &str)],
    ) -> (u16, Value) {
        read(&self.raw(method, path, body, headers).await)
    }

    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&'static str, &str)],
    ) -> Response<Bytes> {
        let request = request(
            method,
            path,
            &Bytes::copy_from_slice(body.as_bytes()),
            headers,
        );
        self.client.send(request, LIMIT).await.unwrap()
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let answer = self.client.get(path, LIMIT).await.unwrap();
        String::from_utf8(answer.body().to_vec()).unwrap()
    }
}

fn read(answer: &Response<Bytes>) -> (u16, Value) {
    (
        answer.status().as_u16(),
        serde_json::from_slice(answer.body()).unwrap_or_default(),
    )
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let asked = clock::now();
    while !condition().await {
        assert!(asked.elapsed() < LIMIT, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a command to its end, at most five times [`LIMIT`].
pub(crate) async fn output(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().unwrap();
    tokio::time::timeout(LIMIT * 5, child.wait_with_output())
        .await
        .expect("it did not end")
        .unwrap()
}

/// The store's path in a directory.
pub(crate) fn books(dir: &Path) -> String {
    dir.join("bank.db").display().to_string()
}
