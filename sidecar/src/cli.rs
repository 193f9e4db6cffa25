//! The command line: read, explained and checked before anything is opened.

#![allow(rustdoc::invalid_html_tags, reason = "the comments are the help texts")]

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use pawl_crds::ApiDuration;
use pawl_kit::{
    config::{ConfigError, EX_USAGE, Setting, address, identity, number},
    telemetry::{LogFilter, LogFormat},
};
use pawl_lock::Owner;

use crate::{audience::Audience, engine::Limits};

/// The name by which the program tells of itself.
pub const PROGRAM: &str = "pawl-sidecar";

const EXAMPLES: &str = "\
Examples:
  Without a cluster, locks in the sidecar's memory:
    mkdir policies && cat > policies/demo.yaml <<END
    apiVersion: pawl.dev/v1alpha1
    kind: LockPolicy
    metadata: {name: demo}
    spec: {backend: {memory: {}}}
    END
    pawl-sidecar --policies policies
    curl -X POST http://127.0.0.1:4600/v1/locks/demo/account/42

  With a password for the policy `payments` in secrets/payments/password, and a socket for other containers:
    pawl-sidecar --policies policies --secrets secrets --socket /run/pawl/pawl.sock

Signals:
  SIGTERM or SIGINT drains: acquires are refused with 503, leases end (at once, or after --drain-timeout), every hold is
  released at its backend, exit code 0. A second signal ends the process at once.

Exit codes:
  0   drained
  1   a task failed, or an address could not be bound
  64  bad configuration";

/// Distributed locks for the application beside it: one HTTP call takes a lock, the sidecar keeps it renewed and says
/// when it is lost.
#[expect(
    clippy::doc_markdown,
    reason = "it is shown as help, where backticks would be noise"
)]
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Args {
    /// Directory of policies, one LockPolicy (YAML or JSON) a file; watched for changes
    #[arg(
        long,
        env = "PAWL_POLICIES",
        value_name = "DIR",
        help_heading = "Policies"
    )]
    policies: PathBuf,
    /// Directory of secrets: DIR/<policy>/{username,password,ca.crt,tls.crt,tls.key}; re-read when they change
    #[arg(
        long,
        env = "PAWL_SECRETS",
        value_name = "DIR",
        help_heading = "Policies"
    )]
    secrets: Option<PathBuf>,
    /// Name of this sidecar: the owner of leases whose caller names none [default: POD_NAME, HOSTNAME or the host name]
    #[arg(
        long,
        env = "PAWL_IDENTITY",
        value_name = "NAME",
        help_heading = "Policies"
    )]
    identity: Option<String>,

    /// Address of the lock API; only a loopback address. With 127.0.0.1 it listens on [::1] too, where there is one
    #[arg(
        long,
        env = "PAWL_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:4600",
        help_heading = "Lock API"
    )]
    listen: String,
    /// Unix socket of the lock API, beside the address
    #[arg(
        long,
        env = "PAWL_SOCKET",
        value_name = "PATH",
        help_heading = "Lock API"
    )]
    socket: Option<PathBuf>,
    /// File for the pod's bearer token, which policies with `sidecar.auth: Token` require; made if it is not there
    #[arg(
        long,
        env = "PAWL_TOKEN_FILE",
        value_name = "PATH",
        help_heading = "Lock API"
    )]
    token_file: Option<PathBuf>,
    /// Let every user read the token file and use the socket, not only their group. For volumes that only the pod
    /// shares: whoever sees the files may lock
    #[arg(long, env = "PAWL_SHARED_FILES", help_heading = "Lock API")]
    shared_files: bool,

    /// Address of /livez, /readyz, /metrics and /status
    #[arg(
        long,
        env = "PAWL_ADMIN",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:4601",
        help_heading = "Operation"
    )]
    admin: String,
    /// How long leases live on after SIGTERM; then they are lost as `draining`. At most 1h
    #[arg(
        long,
        env = "PAWL_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "0s",
        help_heading = "Operation"
    )]
    drain_timeout: String,
    /// Format of log lines: text or json
    #[arg(
        long,
        env = "PAWL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Operation"
    )]
    log_format: String,
    /// Which log lines: error, warn, info, debug, trace, or a list such as info,pawl_sidecar=debug
    #[arg(
        long,
        env = "PAWL_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Operation"
    )]
    log_level: String,

    /// Keys that are held or waited for at a time, over all policies
    #[arg(
        long,
        env = "PAWL_MAX_KEYS",
        value_name = "N",
        default_value = "100000",
        help_heading = "Limits"
    )]
    max_keys: String,
    /// Leases at a time, over all policies
    #[arg(
        long,
        env = "PAWL_MAX_LEASES",
        value_name = "N",
        default_value = "100000",
        help_heading = "Limits"
    )]
    max_leases: String,
    /// Callers that wait at a time, over all policies
    #[arg(
        long,
        env = "PAWL_MAX_WAITERS",
        value_name = "N",
        default_value = "20000",
        help_heading = "Limits"
    )]
    max_waiters: String,
}

/// Everything that the program is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of policies.
    pub policies: PathBuf,
    /// Directory of secrets.
    pub secrets: Option<PathBuf>,
    /// The sidecar's name.
    pub identity: Owner,
    /// Address of the lock API: a loopback address.
    pub listen: SocketAddr,
    /// Its Unix socket.
    pub socket: Option<PathBuf>,
    /// Where the bearer token is.
    pub token_file: Option<PathBuf>,
    /// Who may use the socket and the token.
    pub audience: Audience,
    /// Address of the admin server.
    pub admin: SocketAddr,
    /// How long leases live on after SIGTERM.
    pub drain_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which lines are logged.
    pub log_filter: LogFilter,
    /// The sidecar's own bounds.
    pub limits: Limits,
}

const POLICIES: Setting = Setting::new("--policies", "PAWL_POLICIES");
const SECRETS: Setting = Setting::new("--secrets", "PAWL_SECRETS");
const IDENTITY: Setting = Setting::new("--identity", "PAWL_IDENTITY");
const LISTEN: Setting = Setting::new("--listen", "PAWL_LISTEN");
const ADMIN: Setting = Setting::new("--admin", "PAWL_ADMIN");
const DRAIN_TIMEOUT: Setting = Setting::new("--drain-timeout", "PAWL_DRAIN_TIMEOUT");
const LOG_FORMAT: Setting = Setting::new("--log-format", "PAWL_LOG_FORMAT");
const LOG_LEVEL: Setting = Setting::new("--log-level", "PAWL_LOG_LEVEL");

/// The longest time that leases may live on while the sidecar drains.
const MAX_DRAIN: Duration = Duration::from_hours(1);

impl Config {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// The exit code to end with, after help or an explanation was printed: 0 for `--help` and `--version`, 64 for what
    /// cannot be used.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let args = Args::try_parse_from(args).map_err(|error| {
            // Nowhere to tell it if standard error is closed.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            }
        })?;
        Self::try_from(args).map_err(|error| error.report(PROGRAM))
    }
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let Args {
            policies,
            secrets,
            identity: name,
            listen,
            socket,
            token_file,
            shared_files,
            admin,
            drain_timeout,
            log_format,
            log_level,
            max_keys,
            max_leases,
            max_waiters,
        } = args;
        let most =
            |flag, env, text: &str| number(Setting::new(flag, env), text, 1..=1_000_000_usize);
        Ok(Self {
            policies: directory(POLICIES, policies)?,
            secrets: secrets.map(|dir| directory(SECRETS, dir)).transpose()?,
            identity: owner(name.as_deref())?,
            listen: loopback(&listen)?,
            socket,
            token_file,
            audience: if shared_files {
                Audience::Everyone
            } else {
                Audience::Group
            },
            admin: address(ADMIN, &admin)?,
            drain_timeout: drain(&drain_timeout)?,
            log_format: log_format
                .parse()
                .map_err(|_| ConfigError::new(LOG_FORMAT, "no such format", "give text or json"))?,
            log_filter: log_level.parse().map_err(|error| {
                let remedy = "give a level such as info, or a list such as info,pawl_sidecar=debug";
                ConfigError::new(LOG_LEVEL, format!("{error}"), remedy)
            })?,
            limits: Limits {
                keys: most("--max-keys", "PAWL_MAX_KEYS", &max_keys)?,
                leases: most("--max-leases", "PAWL_MAX_LEASES", &max_leases)?,
                waiters: most("--max-waiters", "PAWL_MAX_WAITERS", &max_waiters)?,
            },
        })
    }
}

/// A directory may come later, with a mount; a file in its place never becomes one.
fn directory(setting: Setting, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().is_empty() || path.is_file() {
        let problem = format!("`{}` is not a directory", path.display());
        return Err(ConfigError::new(setting, problem, "give a directory"));
    }
    Ok(path)
}

fn owner(name: Option<&str>) -> Result<Owner, ConfigError> {
    let name = identity(IDENTITY, name)?;
    Owner::try_new(&name).map_err(|error| {
        let remedy = "give 1 to 128 printable ASCII characters without spaces";
        ConfigError::new(IDENTITY, error.to_string(), remedy)
    })
}

/// The lock API answers whoever reaches it, so only the pod may.
fn loopback(text: &str) -> Result<SocketAddr, ConfigError> {
    let listen = address(LISTEN, text)?;
    if listen.ip().is_loopback() {
        return Ok(listen);
    }
    let problem = format!("{} can be reached from other machines", listen.ip());
    let remedy =
        "give a loopback address such as 127.0.0.1:4600; for other containers share --socket";
    Err(ConfigError::new(LISTEN, problem, remedy))
}

fn drain(text: &str) -> Result<Duration, ConfigError> {
    let wrong = |problem: String| {
        ConfigError::new(
            DRAIN_TIMEOUT,
            problem,
            "give a duration from 0s to 1h, such as 10s",
        )
    };
    let timeout: ApiDuration = text
        .parse()
        .map_err(|error: pawl_crds::InvalidDuration| wrong(error.to_string()))?;
    if timeout.as_std() > MAX_DRAIN {
        return Err(wrong(format!("{timeout} is too long")));
    }
    Ok(timeout.as_std())
}

#[cfg(test)]
mod tests;
