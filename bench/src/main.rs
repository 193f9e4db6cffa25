//! `pawl-bench`: measures, prints a table, and fails if a bound is missed.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use pawl_bench::{Error, cases, echo, relay, report};

/// Measures Pawl against other ways to the same end, in one run on one machine.
///
/// Prints a table, writes bench.json and bench.md, and exits with 1 if a bound is missed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// What to measure; everything if nothing is named.
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// Where the results go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Role {
    /// Serves as the reference server of the case `memory`.
    #[command(hide = true)]
    EchoServer {
        #[arg(default_value = "127.0.0.1:0")]
        address: SocketAddr,
    },
    /// Serves as the relay of the case `redis`.
    #[command(hide = true)]
    Relay { redis: SocketAddr },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Case {
    /// The sidecar alone: the memory backend against a bare server.
    Memory,
    /// A cold and a repeated key on Redis against a client written by hand.
    Redis,
    /// A cold key on five Redlock nodes against redlock (npm) and redsync (Go).
    Redlock,
    /// Memory and start of an idle sidecar.
    Idle,
    /// Memory of 10,000 parked waiters.
    Waiters,
    /// One key, 64 waiters over 4 sidecars.
    Contended,
    /// Reviews of pods by the operator's webhook.
    Admission,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("pawl-bench: {error}");
    ExitCode::from(2)
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    if let Some(role) = arguments.role {
        match role {
            Role::EchoServer { address } => echo::serve(address).await?,
            Role::Relay { redis } => relay::serve(redis).await?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = if arguments.cases.is_empty() {
        Case::value_variants()
    } else {
        &arguments.cases
    };
    let mut measures = Vec::new();
    for case in chosen {
        eprintln!("measuring {case:?} ...");
        measures.extend(match case {
            Case::Memory => cases::memory::measure().await?,
            Case::Redis => cases::redis::measure().await?,
            Case::Redlock => cases::redlock::measure(&arguments.out.join("peers")).await?,
            Case::Idle => cases::idle::measure().await?,
            Case::Waiters => cases::waiters::measure().await?,
            Case::Contended => cases::contended::measure().await?,
            Case::Admission => cases::admission::measure().await?,
        });
    }
    print!("{}", report::table(&measures));
    report::write(&arguments.out, &measures)?;
    Ok(if measures.iter().all(report::Measure::holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
