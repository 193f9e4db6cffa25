//! The options of `pawl-demo race`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::parse_duration;

/// One of the acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Act {
    /// Deductions at the same instant, in every lock mode
    Race,
    /// A holder is killed; when the next one gets the key
    Crash,
    /// A holder sleeps past its ttl and writes late, with fencing off and on
    Stall,
    /// In which order waiters are served
    Queue,
    /// 1,000 operations with and without a lock
    Overhead,
}

impl Act {
    /// The name as reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Race => "race",
            Self::Crash => "crash",
            Self::Stall => "stall",
            Self::Queue => "queue",
            Self::Overhead => "overhead",
        }
    }
}

/// Starts banks and sidecars, makes them race in every lock mode, and judges what came of it.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
EXAMPLES
  pawl-demo race                                          # no server needed: locks in the sidecar's memory
  pawl-demo race --backend redis://localhost:6379
  pawl-demo race --backend redlock:localhost:6379,localhost:6380,localhost:6381
  pawl-demo race --backend postgres://me@localhost/app    # advisory locks; ?mode=Row for rows
  pawl-demo race --act stall --act crash
  pawl-demo race --serve                                  # and leave the live page up

Prints a table, and writes race.json, race.svg and the children's logs into --out.
Exits 1 when a lock mode lost an update, and also when the unlocked mode did not lose one, since then the race has
shown nothing. A password in the URL goes into a file that only the sidecars read.")]
pub struct Options {
    /// Where locks are kept: memory, redis://…, redlock:A,B,C, postgres://…, etcd://… or zookeeper://…
    #[arg(
        long,
        env = "BACKEND",
        default_value = "memory",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub backend: String,

    /// Run only this act; may be given more than once
    #[arg(long, value_enum, value_name = "NAME")]
    pub act: Vec<Act>,

    /// Where the results go
    #[arg(long, default_value = "target/race", value_name = "DIR")]
    pub out: PathBuf,

    /// The sidecar to start; pawl-sidecar beside this program when not given
    #[arg(long, value_name = "PATH")]
    pub sidecar_bin: Option<PathBuf>,

    /// The banks' store: a SQLite file in a temporary directory, or postgres://…
    #[arg(
        long,
        env = "RACE_STORE",
        hide_env_values = true,
        value_name = "PATH|URL"
    )]
    pub store: Option<String>,

    /// Bank replicas in the large rounds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=50))]
    pub replicas: u16,

    /// Time between the check and the write
    #[arg(long, default_value = "20ms", value_parser = parse_duration, value_name = "DURATION")]
    pub think: Duration,

    /// Serve the live page, and leave it up with some traffic until Ctrl-C
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:8080")]
    pub serve: Option<SocketAddr>,
}

impl Options {
    /// The acts to run, in the play's order.
    pub fn acts(&self) -> Vec<Act> {
        let all = Act::value_variants().iter().copied();
        all.filter(|act| self.act.is_empty() || self.act.contains(act))
            .collect()
    }
}
