//! A child process: its log, its signals, and its end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::clock;

/// The environment must not change what a child was told by arguments.
const NOT_INHERITED: [&str; 6] = [
    "BANK_",
    "LOCK_",
    "PAWL_",
    "FENCING",
    "THINK_TIME",
    "LOG_FORMAT",
];

/// A running child; killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where its stdout and stderr go.
    pub log: PathBuf,
}

impl Process {
    /// Starts `program` with its output in `log`, tied to this process's life.
    pub fn start(program: &Path, arguments: &[OsString], log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "--parent", &std::process::id().to_string(), "--"]);
        command.arg(program).args(arguments);
        for (name, _) in std::env::vars_os() {
            if NOT_INHERITED
                .iter()
                .any(|p| name.as_encoded_bytes().starts_with(p.as_bytes()))
            {
                command.env_remove(name);
            }
        }
        // A process group of its own: Ctrl-C is for us, and we end the children in order.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(Self {
            child: command.spawn()?,
            log: log.to_owned(),
        })
    }

    /// Its end, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal. A process that has ended is not signalled: its id may be another one's by then.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            // It can only have ended meanwhile, and then it is a zombie that takes no harm.
            let _ = pid.map(|pid| kill_process(pid, signal));
        }
    }

    /// Tells it to end and waits for that; killed when it takes longer than `limit`.
    pub async fn end(mut self, limit: Duration) {
        self.signal(Signal::TERM);
        let asked = clock::now();
        while self.ended().is_none() && asked.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
