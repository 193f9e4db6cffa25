//! What the acts play on: the policies, the sidecars, the books, and a place for each child's log.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::backend::Backend;
use super::error::RaceError;
use super::options::Options;
use super::policy::{self, ACCOUNTS};
use super::ports::Ports;
use super::process::Process;
use super::progress::Progress;
use crate::clock;
use crate::pawl::{Pawl, Terms};
use crate::wire::Client;

/// How long a child may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long a backend may take to grant the first lock; Redlock nodes that were just started do not count for 10 s.
const FIRST_LOCK_LIMIT: Duration = Duration::from_secs(20);
/// How often a sidecar that somebody else ended is started again, in one run.
const RESTARTS: u32 = 50;

/// A sidecar: its addresses stay, its process may be killed and started again.
#[derive(Debug)]
pub struct Sidecar {
    /// `http://HOST:PORT` of its API.
    pub url: String,
    listen: u16,
    admin: u16,
    process: Mutex<Option<Process>>,
}

/// Everything that outlives an act.
#[derive(Debug)]
pub struct Stage {
    /// Where locks are kept.
    pub backend: Backend,
    /// This run's own name; part of the policies' namespace and of every account's name.
    pub run: String,
    /// One for all replicas, or one for each.
    pub sidecars: Vec<Sidecar>,
    /// The banks' store.
    pub store: String,
    /// Bank replicas in the large rounds.
    pub replicas: usize,
    /// Time between the check and the write.
    pub think: Duration,
    /// What is told on stderr.
    pub progress: Progress,
    pub(super) ports: Ports,
    pub(super) logs: PathBuf,
    pub(super) program: PathBuf,
    sidecar_program: PathBuf,
    work: TempDir,
}

impl Stage {
    /// Writes the policies and starts the sidecars; all of them can take locks when it returns.
    pub async fn set(
        options: &Options,
        backend: Backend,
        progress: Progress,
    ) -> Result<Self, RaceError> {
        let program =
            std::env::current_exe().map_err(RaceError::system("the program cannot find itself"))?;
        let sidecar_program = sidecar_program(options, &program)?;
        let work = TempDir::with_prefix("pawl-race-")
            .map_err(RaceError::system("no temporary directory"))?;
        let run = format!("{:x}", clock::wall_ms());
        let (policies, secrets) = (work.path().join("policies"), work.path().join("secrets"));
        policy::write(&backend, &format!("race-{run}"), &policies, &secrets)
            .map_err(RaceError::system("the policies cannot be written"))?;
        let logs = options.out.join("logs");
        forget_logs(&logs);
        std::fs::create_dir_all(&logs).map_err(RaceError::system(logs.display().to_string()))?;
        let store = options
            .store
            .clone()
            .unwrap_or_else(|| work.path().join("bank.db").display().to_string());
        let mut stage = Self {
            backend,
            run,
            sidecars: Vec::new(),
            store,
            replicas: usize::from(options.replicas),
            think: options.think,
            progress,
            ports: Ports::default(),
            logs,
            program,
            sidecar_program,
            work,
        };
        let count = if stage.backend.is_shared() {
            1
        } else {
            stage.replicas
        };
        stage.progress.say(format!(
            "starting {count} sidecar(s) on {}",
            stage.backend.kind
        ));
        for _ in 0..count {
            let port = || {
                stage
                    .ports
                    .free()
                    .map_err(RaceError::system("no free port"))
            };
            let (listen, admin) = (port()?, port()?);
            let url = format!("http://127.0.0.1:{listen}");
            stage.sidecars.push(Sidecar {
                url,
                listen,
                admin,
                process: Mutex::new(None),
            });
        }
        for index in 0..count {
            let process = stage.spawn_sidecar(index)?;
            *stage.slot(index) = Some(process);
        }
        for index in 0..count {
            stage.sidecar_ready(index).await?;
        }
        Ok(stage)
    }

    /// The sidecar of a replica.
    pub fn sidecar_of(&self, replica: usize) -> &Sidecar {
        &self.sidecars[replica % self.sidecars.len()]
    }

    /// A client of a replica's sidecar.
    pub fn pawl(&self, replica: usize, policy: &str) -> Result<Pawl, RaceError> {
        Ok(Pawl::new(&self.sidecar_of(replica).url, policy)?)
    }

    /// Signals a replica's own sidecar; a shared one is left alone.
    pub fn signal_own_sidecar(&self, replica: usize, signal: Signal) {
        if !self.backend.is_shared()
            && let Some(process) = self.slot(replica % self.sidecars.len()).as_mut()
        {
            process.signal(signal);
        }
    }

    /// Kills a replica's own sidecar for good; a shared one is left alone.
    pub fn kill_own_sidecar(&self, replica: usize) {
        if !self.backend.is_shared() {
            drop(self.slot(replica % self.sidecars.len()).take());
        }
    }

    /// Starts a replica's own sidecar again after [`Stage::kill_own_sidecar`].
    pub async fn revive_own_sidecar(&self, replica: usize) -> Result<(), RaceError> {
        let index = replica % self.sidecars.len();
        if self.slot(index).is_none() {
            *self.slot(index) = Some(self.spawn_sidecar(index)?);
            self.sidecar_ready(index).await?;
        }
        Ok(())
    }

    /// Starts sidecars again that somebody else ended, as a kubelet would; never ends by itself.
    pub async fn tend(&self) -> RaceError {
        let mut restarts = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for index in 0..self.sidecars.len() {
                let Some(status) = self.slot(index).as_mut().and_then(Process::ended) else {
                    continue;
                };
                restarts += 1;
                self.progress.say(format!(
                    "sidecar {} ended ({status}); starting it again",
                    index + 1
                ));
                if restarts > RESTARTS {
                    return self.not_started(index, "it ends again and again");
                }
                match self.spawn_sidecar(index) {
                    Ok(process) => *self.slot(index) = Some(process),
                    Err(error) => return error,
                }
            }
        }
    }

    /// Ends the sidecars in order.
    pub async fn strike(self) {
        for index in 0..self.sidecars.len() {
            let process = self.slot(index).take();
            if let Some(process) = process {
                process.end(Duration::from_secs(5)).await;
            }
        }
    }

    /// An account's name that no other run and no other round has.
    pub fn account(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    fn slot(&self, index: usize) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.sidecars[index]
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn_sidecar(&self, index: usize) -> Result<Process, RaceError> {
        let Sidecar { listen, admin, .. } = &self.sidecars[index];
        let mut arguments: Vec<OsString> = Vec::new();
        for (name, value) in [
            (
                "--policies",
                self.work.path().join("policies").into_os_string(),
            ),
            (
                "--secrets",
                self.work.path().join("secrets").into_os_string(),
            ),
            ("--listen", format!("127.0.0.1:{listen}").into()),
            ("--admin", format!("127.0.0.1:{admin}").into()),
            (
                "--identity",
                format!("race-{}-{}", self.run, index + 1).into(),
            ),
        ] {
            arguments.extend([name.into(), value]);
        }
        let log = self.logs.join(format!("sidecar-{}.log", index + 1));
        Process::start(&self.sidecar_program, &arguments, &log)
            .map_err(RaceError::system("a sidecar cannot be started"))
    }

    /// Waits until a sidecar answers and takes a lock.
    async fn sidecar_ready(&self, index: usize) -> Result<(), RaceError> {
        let admin = Client::new(&format!("http://127.0.0.1:{}", self.sidecars[index].admin))?;
        self.ready(&admin, || {
            self.slot(index).as_mut().and_then(Process::ended)
        })
        .await
        .map_err(|why| self.not_started(index, &why))?;
        let pawl = self.pawl(index, ACCOUNTS)?;
        let terms = Terms {
            wait: Some(Duration::from_secs(1)),
            ..Terms::default()
        };
        let key = format!("probe/{index}");
        let asked = clock::now();
        let mut is_told = false;
        loop {
            match pawl.acquire(&[&key], &terms).await {
                Ok(lease) => {
                    let released = pawl.release(&lease).await;
                    return released.map_err(|e| RaceError::Unreachable(e.to_string()));
                }
                Err(e) if e.retry_after().is_none() || asked.elapsed() > FIRST_LOCK_LIMIT => {
                    return Err(RaceError::Unreachable(e.to_string()));
                }
                Err(e) => {
                    if !std::mem::replace(&mut is_told, true) {
                        self.progress.say(format!("waiting for the backend: {e}"));
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Waits until `/readyz` says yes, or says why it never will.
    pub(super) async fn ready(
        &self,
        client: &Client,
        mut ended: impl FnMut() -> Option<std::process::ExitStatus>,
    ) -> Result<(), String> {
        let asked = clock::now();
        let mut last = String::new();
        while asked.elapsed() < READY_LIMIT {
            match client.get("/readyz", Duration::from_secs(2)).await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => last = format!("it answers {}", answer.status()),
                Err(error) => last = error.to_string(),
            }
            if let Some(status) = ended() {
                return Err(format!("it ended: {status}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("it was not ready within {READY_LIMIT:?}: {last}"))
    }

    fn not_started(&self, index: usize, why: &str) -> RaceError {
        let slot = self.slot(index);
        let (log, words) = slot
            .as_ref()
            .map(|p| (p.log.clone(), p.last_words()))
            .unwrap_or_default();
        RaceError::Start {
            name: format!("sidecar {}", index + 1),
            why: why.to_owned(),
            log,
            words,
        }
    }
}

/// Deletes the logs of an earlier run, and nothing else. What cannot be deleted is added to.
fn forget_logs(logs: &Path) {
    for entry in logs.read_dir().into_iter().flatten().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "log")
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The sidecar's program: as told, or beside this one.
fn sidecar_program(options: &Options, program: &Path) -> Result<PathBuf, RaceError> {
    let path = match &options.sidecar_bin {
        Some(path) => path.clone(),
        None => program.with_file_name("pawl-sidecar"),
    };
    // The child runs where we run, but a bare name would be looked up in PATH.
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(RaceError::NoSidecar(path)),
    }
}
