//! The command line: what is asked for, where logs go, and what the process exits with.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{bank, load, race};

/// What the process exits with when it was used or configured wrongly (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// A bank that loses money without Pawl, and keeps it with Pawl.
#[derive(Debug, Parser)]
#[command(
    name = "pawl-demo",
    version,
    about,
    after_help = "\
EXIT CODES
  0   done, and all was as it should be
  1   it failed: money was lost under a lock, a server is missing, …
  64  wrong usage or configuration

Every option is described by `pawl-demo COMMAND --help`. Logs go to stderr; RUST_LOG=debug tells more."
)]
struct Cli {
    /// How logs are written
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one replica of the bank
    Bank(bank::Options),
    /// Start banks and sidecars, make them race in every lock mode, and judge what came of it
    Race(race::Options),
    /// Drive a running bank at a fixed rate and report how long it took
    Load(load::Options),
    /// Run a program that is killed when its parent ends
    #[command(hide = true, disable_help_flag = true)]
    Child(race::child::Options),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is wrong usage. Should printing fail,
            // there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let default = if matches!(cli.command, Command::Bank(_)) {
        "info"
    } else {
        "warn"
    };
    log_to_stderr(cli.log_format, default);
    match cli.command {
        Command::Child(options) => race::child::become_it(&options),
        command => match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => run(&runtime, command),
            Err(error) => fail(&error, ExitCode::FAILURE),
        },
    }
}

fn run(runtime: &Runtime, command: Command) -> ExitCode {
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let main = async {
            match command {
                Command::Bank(options) => match bank::run(&options, stop.clone()).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&error, error.exit_code()),
                },
                Command::Race(options) => match race::run(&options, stop.clone()).await {
                    Ok(true) => ExitCode::SUCCESS,
                    Ok(false) => ExitCode::FAILURE,
                    Err(error) => fail(&error, error.exit_code()),
                },
                Command::Load(options) => match load::run(&options, stop.clone()).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&error, error.exit_code()),
                },
                Command::Child(options) => race::child::become_it(&options),
            }
        };
        let signals = async {
            match stop_signal().await {
                Ok(()) => {
                    stop.cancel();
                    // Who asks twice does not want to wait for what was begun.
                    let _ = stop_signal().await;
                    return;
                }
                Err(error) => tracing::error!(%error, "signals cannot be heard"),
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            code = main => code,
            () = signals => ExitCode::FAILURE,
        }
    })
}

/// Ends when the process is told to end, by Ctrl-C or SIGTERM.
async fn stop_signal() -> std::io::Result<()> {
    let (mut int, mut term) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Ok(())
}

fn fail(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    eprintln!("pawl-demo: {error}");
    code
}

fn log_to_stderr(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => logs.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
