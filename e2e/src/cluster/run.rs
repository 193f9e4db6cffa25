//! Running other programs to their end.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use super::error::{Error, Result};

/// A command, to be [`run`].
pub(crate) fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it; answers what it wrote to its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|source| Error::Run {
        program: name_of(command),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        command: line_of(command),
        status: output.status,
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs it with the bytes of a file as its standard input.
pub(crate) fn run_with_file(command: &mut Command, file: &Path) -> Result<String> {
    let input = std::fs::File::open(file).map_err(super::error::at(file))?;
    run(command.stdin(input))
}

/// Runs `ip` from iproute2 with these words.
pub(crate) fn ip(words: &str) -> Result<String> {
    run(&mut command("ip", words.split_whitespace()))
}

/// Tells a step to whoever looks at the terminal.
pub(crate) fn tell(text: &str) {
    // Whoever closed the terminal does not want to know.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
