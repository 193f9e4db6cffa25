//! `pawl-demo child`: becomes another program that the kernel kills when the race ends, however it ends.
//!
//! The parent cannot ask for that on the child's behalf without unsafe code, so the child asks for itself and
//! then becomes the program. The wish survives the exec.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Becomes a program that does not outlive its parent.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The parent's process id
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<OsString>,
}

/// Becomes the program; returns only when that failed.
pub fn become_it(options: &Options) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("pawl-demo: cannot be tied to the parent: {error}");
        return ExitCode::FAILURE;
    }
    // The parent may have ended before the wish was made; then nobody would ever end us.
    if getppid()
        .map(rustix::process::Pid::as_raw_nonzero)
        .map(i32::from)
        != Some(options.parent)
    {
        return ExitCode::FAILURE;
    }
    let Some((program, arguments)) = options.command.split_first() else {
        return ExitCode::from(64);
    };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("pawl-demo: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}
