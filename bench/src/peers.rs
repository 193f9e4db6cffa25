//! The other implementations of Redlock: what users of Node and Go have.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    sync::Mutex,
};

use crate::Error;

/// A peer's program, started and warm: it runs cycles when it is told.
#[derive(Debug)]
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    process: Child,
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

impl Peer {
    /// [redlock](https://www.npmjs.com/package/redlock) on Node.
    ///
    /// # Errors
    /// If Node is missing or its packages cannot be had.
    pub fn redlock_npm(nodes: &[String], scratch: &Path) -> Result<Self, Error> {
        let folder = scratch.join("node");
        std::fs::create_dir_all(&folder)?;
        for file in ["package.json", "package-lock.json", "main.mjs"] {
            std::fs::copy(sources().join("node").join(file), folder.join(file))?;
        }
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&folder))?;
        Self::start(
            "redlock (npm)",
            tokio::process::Command::new("node")
                .arg(folder.join("main.mjs"))
                .args(nodes),
        )
    }

    /// [redsync](https://github.com/go-redsync/redsync) on Go.
    ///
    /// # Errors
    /// If Go is missing or its modules cannot be had.
    pub fn redsync(nodes: &[String], scratch: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(scratch)?;
        let program = scratch.canonicalize()?.join("redsync");
        run(Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(sources().join("go")))?;
        Self::start(
            "redsync (Go)",
            tokio::process::Command::new(program).args(nodes),
        )
    }

    fn start(name: &'static str, command: &mut tokio::process::Command) -> Result<Self, Error> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let input = process.stdin.take().ok_or("the peer has no input")?;
        let output = process.stdout.take().ok_or("the peer has no output")?;
        Ok(Self {
            name,
            process,
            pipes: Mutex::new((input, BufReader::new(output).lines())),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Runs `cycles` cycles, each on a fresh key.
    ///
    /// # Errors
    /// If the peer ended; what it said is on standard error.
    pub async fn run(&self, cycles: u32) -> Result<u32, Error> {
        let mut pipes = self.pipes.lock().await;
        let (input, output) = &mut *pipes;
        input.write_all(format!("{cycles}\n").as_bytes()).await?;
        match output.next_line().await? {
            Some(line) if line == "done" => Ok(cycles),
            other => Err(format!("{} said {other:?} instead of done", self.name).into()),
        }
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn run(command: &mut Command) -> Result<(), Error> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
