//! The options of `pawl-demo bank`; each is an environment variable too.

#![expect(
    clippy::doc_markdown,
    reason = "the comments are help texts, not Markdown"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::StartError;
use super::mode::LockMode;
use crate::store;
use crate::units::parse_duration;

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Who renews a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Renew {
    /// The sidecar, for as long as the lease is not released.
    Auto,
    /// Nobody: it ends with its ttl.
    Manual,
}

impl Renew {
    pub(super) fn is_auto(self) -> bool {
        self == Self::Auto
    }
}

/// Runs a bank: POST /api/deduct reads a balance, thinks, and writes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
EXAMPLES
  pawl-demo bank --lock-mode none                            # loses money under load
  pawl-demo bank --lock-mode sidecar --policy accounts       # does not; needs a pawl-sidecar on port 4600
  pawl-demo bank --store postgres://bank@db/bank             # password in PGPASSWORD

  curl -X POST localhost:8080/api/balance/init -H 'content-type: application/json' -d '{\"userId\":\"ann\",\"balance\":1000}'
  curl -X POST localhost:8080/api/deduct -H 'content-type: application/json' -d '{\"userId\":\"ann\",\"amount\":100}'
  curl localhost:8080/api/balance/ann

Open the address in a browser to see replicas, balances and lost updates live.")]
pub struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(
        long,
        env = "BANK_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "IP:PORT"
    )]
    pub listen: SocketAddr,

    /// Where the books are: a SQLite file that replicas on this machine may share, or postgres://USER@HOST/DATABASE
    #[arg(
        long,
        env = "BANK_STORE",
        default_value = "bank.db",
        hide_env_values = true,
        value_name = "PATH|URL"
    )]
    pub store: String,

    /// Postgres: the schema that holds the tables, made when it is missing
    #[arg(
        long,
        env = "BANK_SCHEMA",
        default_value = "pawl_demo",
        value_name = "NAME"
    )]
    pub schema: String,

    /// Postgres: trust the certificates in this file instead of the system's
    #[arg(long, env = "BANK_STORE_CA", value_name = "FILE")]
    pub store_ca: Option<PathBuf>,

    /// Postgres: how long to wait at the start for a server that is not there yet
    #[arg(long, env = "STORE_PATIENCE", value_parser = parse_duration, default_value = "0s", value_name = "DURATION")]
    pub store_patience: Duration,

    /// What keeps two deductions apart
    #[arg(long, env = "LOCK_MODE", value_enum, default_value = "sidecar")]
    pub lock_mode: LockMode,

    /// Whether a write must carry a fencing token that is not below the highest one applied; on by default
    /// with the lock mode `sidecar`, else off
    #[arg(long, env = "FENCING", value_enum)]
    pub fencing: Option<Switch>,

    /// Lock mode sidecar: where it listens, http://HOST:PORT or unix:/PATH
    #[arg(
        long,
        env = "PAWL_URL",
        default_value = "http://127.0.0.1:4600",
        value_name = "URL"
    )]
    pub sidecar: String,

    /// Lock mode sidecar: the policy to lock by; `-` is the only one that the sidecar has
    #[arg(long, env = "PAWL_POLICY", default_value = "-", value_name = "NAME")]
    pub policy: String,

    /// Lock mode sidecar: the file with the bearer token, for a policy that asks for one
    #[arg(long, env = "PAWL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Lock mode sidecar: the lease's time to live; the policy's when not given
    #[arg(long, env = "LOCK_TTL", value_parser = parse_duration, value_name = "DURATION")]
    pub lock_ttl: Option<Duration>,

    /// The longest a request queues for its lock
    #[arg(long, env = "LOCK_WAIT", value_parser = parse_duration, default_value = "10s", value_name = "DURATION")]
    pub lock_wait: Duration,

    /// Lock mode sidecar: who renews a lease; as the policy says when not given
    #[arg(long, env = "LOCK_RENEW", value_enum)]
    pub lock_renew: Option<Renew>,

    /// The time between the check and the write
    #[arg(long, env = "THINK_TIME", value_parser = parse_duration, default_value = "20ms", value_name = "DURATION")]
    pub think: Duration,

    /// This replica's name; the host's name and the port when not given
    #[arg(long, env = "BANK_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// How others reach this replica, for the page; where it listens when not given
    #[arg(long, env = "BANK_ADVERTISE", value_name = "URL")]
    pub advertise: Option<String>,
}

impl Options {
    /// Whether writes are fenced.
    pub fn fencing(&self) -> bool {
        match self.fencing {
            Some(switch) => switch == Switch::On,
            None => self.lock_mode == LockMode::Sidecar,
        }
    }

    /// The replica's name, at most 64 bytes.
    pub(super) fn replica(&self, port: u16) -> String {
        let host = || {
            let name = rustix::system::uname();
            format!("{}:{port}", name.nodename().to_string_lossy())
        };
        let mut name = self
            .name
            .clone()
            .filter(|n| !n.is_empty())
            .unwrap_or_else(host);
        while name.len() > 64 {
            name.pop();
        }
        name
    }

    pub(super) fn store_options(&self) -> Result<store::Options, StartError> {
        let is_name = |s: &str| {
            s.len() <= 63
                && s.starts_with(|c: char| c.is_ascii_lowercase())
                && s.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !is_name(&self.schema) {
            let text = "--schema: write up to 63 of a-z, 0-9 and _, a letter first";
            return Err(StartError::Options(text.to_owned()));
        }
        Ok(store::Options {
            schema: self.schema.clone(),
            ca_file: self.store_ca.clone(),
            ..store::Options::default()
        })
    }
}
