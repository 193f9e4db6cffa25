//! Child processes that never outlive the test.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

/// A program and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name, looked for in `PATH`, or its path.
    pub name: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// A running program. Dropping it kills it; when the test process ends in any other way, the kernel does
/// (`PR_SET_PDEATHSIG`).
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    pid: Pid,
    log: PathBuf,
}

/// A command to start, and where to answer.
type Order = (Command, Sender<io::Result<Child>>);

impl Process {
    /// Starts a program; what it says goes to `log`. `user` is who runs it, if somebody else: for programs that refuse
    /// to be root.
    ///
    /// # Panics
    /// If it cannot be started, with the command that installs it.
    pub fn start(
        program: Program,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &[(&str, OsString)],
        user: Option<&str>,
        log: &Path,
    ) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log can be written");
        let errors = output.try_clone().expect("a file can be opened twice");
        let mut command = Command::new("setpriv");
        if let Some(user) = user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        command
            .args(["--pdeathsig", "KILL", "--", program.name])
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        assert!(
            is_installed(program.name),
            "{} is not installed: apt-get install {}",
            program.name,
            program.package
        );
        let child = spawn(command)
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.name));
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a child has an id");
        Self {
            child: Mutex::new(child),
            pid,
            log: log.to_owned(),
        }
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends it a signal; does nothing if it is gone.
    pub fn signal(&self, signal: Signal) {
        // The child is waited for only by `kill`, so the id is still its own.
        let _ = kill_process(self.pid, signal);
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Whether it ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(child.try_wait(), Ok(None))
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the command from a thread that lives as long as the process: the kernel's death signal follows the thread
/// that made the child, and a test's thread ends with the test.
fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in taken {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    orders
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    child.recv().map_err(gone)?
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Path::new(program).is_absolute() && Path::new(program).exists()
        || std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
