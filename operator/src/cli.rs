//! The command line: read, explained and checked before anything is opened.

#![allow(rustdoc::invalid_html_tags, reason = "the comments are the help texts")]

use std::{
    ffi::OsString, net::SocketAddr, ops::RangeInclusive, path::PathBuf, process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pawl_crds::ApiDuration;
use pawl_kit::{
    config::{ConfigError, EX_USAGE, Setting, address},
    telemetry::{LogFilter, LogFormat},
};

use crate::inject::PullPolicy;

/// The name by which the program tells of itself.
pub const PROGRAM: &str = "pawl-operator";

const EXAMPLES: &str = "\
Normally the chart `pawl` runs it; these are its arguments there:
    pawl-operator --release=pawl --sidecar-image=ghcr.io/pawl-dev/pawl-sidecar:0.1.0

Off the cluster it uses KUBECONFIG. All replicas answer the webhook; the one that holds the Lease <release>-operator brings
policies to pods and writes their status.

  pawl-operator check-webhook --help   waits until the API server reaches the webhook

Signals:
  SIGTERM or SIGINT drains: the Lease is let go, reviews are answered until the nodes send no more, exit code 0. A second signal
  ends the process at once.

Exit codes:
  0   drained
  1   a task failed, an address could not be bound, or there is no way to the API server
  64  bad configuration";

/// Gives pods their lock sidecar (by a webhook), sidecars their policies, and policies their status.
#[derive(Parser, Debug)]
#[command(name = PROGRAM, version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Args {
    /// Name that its objects begin with: the Lease <release>-operator, the Service <release>-webhook and the
    /// MutatingWebhookConfiguration <release>-inject
    #[arg(
        long,
        env = "PAWL_RELEASE",
        value_name = "NAME",
        default_value = "pawl",
        help_heading = "Identity"
    )]
    release: String,
    /// Its own namespace
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NS",
        help_heading = "Identity"
    )]
    namespace: String,
    /// Name of its own pod
    #[arg(long, env = "POD_NAME", value_name = "NAME", help_heading = "Identity")]
    pod_name: String,
    /// Look at this namespace alone; may be given more than once [default: all namespaces]
    #[arg(
        long = "watch-namespace",
        env = "PAWL_WATCH_NAMESPACES",
        value_name = "NS",
        value_delimiter = ',',
        help_heading = "Identity"
    )]
    watch_namespaces: Vec<String>,

    /// Image of the sidecar where the pod names none
    #[arg(
        long,
        env = "PAWL_SIDECAR_IMAGE",
        value_name = "IMAGE",
        help_heading = "Injection"
    )]
    sidecar_image: String,
    /// When the kubelet pulls it: Always, IfNotPresent or Never
    #[arg(
        long,
        env = "PAWL_SIDECAR_IMAGE_PULL_POLICY",
        value_name = "POLICY",
        default_value = "IfNotPresent",
        help_heading = "Injection"
    )]
    sidecar_image_pull_policy: String,
    /// Address of the webhook (HTTPS, path /inject)
    #[arg(
        long,
        env = "PAWL_WEBHOOK_LISTEN",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:8443",
        help_heading = "Injection"
    )]
    webhook_listen: String,
    /// `self` for certificates of its own, which it puts into the webhook's configuration, or a directory with tls.crt and
    /// tls.key, re-read when they change
    #[arg(
        long,
        env = "PAWL_CERTS",
        value_name = "self|DIR",
        default_value = "self",
        help_heading = "Injection"
    )]
    certs: String,

    /// How long certificates of its own are valid; they are renewed at two thirds of it. 4h to 720h
    #[arg(
        long,
        env = "PAWL_CERTS_LIFETIME",
        value_name = "DURATION",
        default_value = "24h",
        help_heading = "Injection"
    )]
    certs_lifetime: String,

    /// Address of /livez, /readyz, /metrics and /status
    #[arg(
        long,
        env = "PAWL_ADMIN",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:4601",
        help_heading = "Operation"
    )]
    admin: String,
    /// How long the webhook takes new reviews after SIGTERM: nodes send them until they have heard that the pod ends.
    /// At most 1m
    #[arg(
        long,
        env = "PAWL_LINGER",
        value_name = "DURATION",
        default_value = "5s",
        help_heading = "Operation"
    )]
    linger: String,
    /// How long running reviews and writes have after that. At most 1m
    #[arg(
        long,
        env = "PAWL_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
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
    /// Which log lines: error, warn, info, debug, trace, or a list such as info,pawl_operator=debug
    #[arg(
        long,
        env = "PAWL_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Operation"
    )]
    log_level: String,
}

/// Everything that the program is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What its objects' names begin with.
    pub release: String,
    /// Its own namespace.
    pub namespace: String,
    /// Its own pod.
    pub pod_name: String,
    /// The namespaces that it looks at; empty: all.
    pub watch_namespaces: Vec<String>,
    /// The sidecar's image.
    pub sidecar_image: String,
    /// When it is pulled.
    pub sidecar_image_pull_policy: PullPolicy,
    /// Address of the webhook.
    pub webhook_listen: SocketAddr,
    /// Where the webhook's certificate comes from.
    pub certs: CertsFrom,
    /// How long certificates of its own are valid.
    pub certs_lifetime: Duration,
    /// Address of the admin server.
    pub admin: SocketAddr,
    /// How long the webhook takes new reviews after the drain began.
    pub linger: Duration,
    /// How long the drain may take after that.
    pub drain_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which lines are logged.
    pub log_filter: LogFilter,
}

/// Where the webhook's certificate comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertsFrom {
    /// Its own.
    Own,
    /// A directory.
    Directory(PathBuf),
}

const RELEASE: Setting = Setting::new("--release", "PAWL_RELEASE");
const NAMESPACE: Setting = Setting::new("--namespace", "POD_NAMESPACE");
const POD_NAME: Setting = Setting::new("--pod-name", "POD_NAME");
const WATCH_NAMESPACE: Setting = Setting::new("--watch-namespace", "PAWL_WATCH_NAMESPACES");
const IMAGE: Setting = Setting::new("--sidecar-image", "PAWL_SIDECAR_IMAGE");
const PULL_POLICY: Setting = Setting::new(
    "--sidecar-image-pull-policy",
    "PAWL_SIDECAR_IMAGE_PULL_POLICY",
);
const WEBHOOK_LISTEN: Setting = Setting::new("--webhook-listen", "PAWL_WEBHOOK_LISTEN");
const CERTS: Setting = Setting::new("--certs", "PAWL_CERTS");
const CERTS_LIFETIME: Setting = Setting::new("--certs-lifetime", "PAWL_CERTS_LIFETIME");
const ADMIN: Setting = Setting::new("--admin", "PAWL_ADMIN");
const LINGER: Setting = Setting::new("--linger", "PAWL_LINGER");
const DRAIN_TIMEOUT: Setting = Setting::new("--drain-timeout", "PAWL_DRAIN_TIMEOUT");
const LOG_FORMAT: Setting = Setting::new("--log-format", "PAWL_LOG_FORMAT");
const LOG_LEVEL: Setting = Setting::new("--log-level", "PAWL_LOG_LEVEL");

/// Longest name: with the longest suffix, `-operator`, it is still the name of a Service, which is a DNS label.
const MAX_RELEASE: usize = 53;
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;
const MAX_NAMESPACES: usize = 100;

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
            release,
            namespace,
            pod_name,
            watch_namespaces,
            sidecar_image,
            sidecar_image_pull_policy,
            webhook_listen,
            certs,
            certs_lifetime,
            admin,
            linger,
            drain_timeout,
            log_format,
            log_level,
        } = args;
        if watch_namespaces.len() > MAX_NAMESPACES {
            return Err(ConfigError::new(
                WATCH_NAMESPACE,
                format!("{} namespaces are too many", watch_namespaces.len()),
                format!("give at most {MAX_NAMESPACES}, or none to look at all"),
            ));
        }
        let mut watched = watch_namespaces
            .into_iter()
            .map(|name| label(WATCH_NAMESPACE, name, MAX_LABEL))
            .collect::<Result<Vec<_>, _>>()?;
        watched.sort();
        watched.dedup();
        Ok(Self {
            release: label(RELEASE, release, MAX_RELEASE)?,
            namespace: label(NAMESPACE, namespace, MAX_LABEL)?,
            pod_name: name(POD_NAME, pod_name)?,
            watch_namespaces: watched,
            sidecar_image: image(sidecar_image)?,
            sidecar_image_pull_policy: pull_policy(&sidecar_image_pull_policy)?,
            webhook_listen: address(WEBHOOK_LISTEN, &webhook_listen)?,
            certs: certs_from(certs)?,
            certs_lifetime: duration(
                CERTS_LIFETIME,
                &certs_lifetime,
                Duration::from_hours(4)..=Duration::from_hours(720),
                "give a duration from 4h to 720h, such as 24h",
            )?,
            admin: address(ADMIN, &admin)?,
            linger: duration(
                LINGER,
                &linger,
                Duration::ZERO..=Duration::from_mins(1),
                "give a duration from 0s to 1m, such as 5s",
            )?,
            drain_timeout: duration(
                DRAIN_TIMEOUT,
                &drain_timeout,
                Duration::ZERO..=Duration::from_mins(1),
                "give a duration from 0s to 1m, such as 10s",
            )?,
            log_format: log_format
                .parse()
                .map_err(|_| ConfigError::new(LOG_FORMAT, "no such format", "give text or json"))?,
            log_filter: log_level.parse().map_err(|error| {
                let remedy =
                    "give a level such as info, or a list such as info,pawl_operator=debug";
                ConfigError::new(LOG_LEVEL, format!("{error}"), remedy)
            })?,
        })
    }
}

/// A DNS label (RFC 1123) of at most `longest` characters.
fn label(setting: Setting, text: String, longest: usize) -> Result<String, ConfigError> {
    if text.len() <= longest && !text.contains('.') && is_name(&text) {
        return Ok(text);
    }
    Err(ConfigError::new(
        setting,
        format!("`{}` is not a name", text.escape_debug()),
        format!(
            "give 1 to {longest} lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
        ),
    ))
}

/// A DNS subdomain (RFC 1123), as names of pods are.
fn name(setting: Setting, text: String) -> Result<String, ConfigError> {
    if text.len() <= MAX_NAME && text.split('.').all(is_name) {
        return Ok(text);
    }
    Err(ConfigError::new(
        setting,
        format!("`{}` is not the name of a pod", text.escape_debug()),
        "give metadata.name of the pod",
    ))
}

fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes
        .iter()
        .all(|byte| alphanumeric(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|first| alphanumeric(*first))
        && bytes.last().is_some_and(|last| alphanumeric(*last))
}

fn image(text: String) -> Result<String, ConfigError> {
    if !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    let problem = format!("`{}` is not an image", text.escape_debug());
    let remedy =
        "give an image with its tag or digest, such as ghcr.io/pawl-dev/pawl-sidecar:0.1.0";
    Err(ConfigError::new(IMAGE, problem, remedy))
}

fn pull_policy(text: &str) -> Result<PullPolicy, ConfigError> {
    text.parse().map_err(|_| {
        let problem = format!("`{}` is no pull policy", text.escape_debug());
        ConfigError::new(PULL_POLICY, problem, "give Always, IfNotPresent or Never")
    })
}

/// A directory may come later, with a mount; a file in its place never becomes one.
fn certs_from(text: String) -> Result<CertsFrom, ConfigError> {
    if text == "self" {
        return Ok(CertsFrom::Own);
    }
    let path = PathBuf::from(text);
    if path.as_os_str().is_empty() || path.is_file() {
        let problem = format!("`{}` is not a directory", path.display());
        let remedy = "give self, or a directory with tls.crt and tls.key";
        return Err(ConfigError::new(CERTS, problem, remedy));
    }
    Ok(CertsFrom::Directory(path))
}

fn duration(
    setting: Setting,
    text: &str,
    range: RangeInclusive<Duration>,
    remedy: &str,
) -> Result<Duration, ConfigError> {
    let parsed: Result<ApiDuration, _> = text.parse();
    match parsed {
        Ok(time) if range.contains(&time.as_std()) => Ok(time.as_std()),
        _ => Err(ConfigError::new(
            setting,
            format!("`{}` is not a time in its range", text.escape_debug()),
            remedy,
        )),
    }
}

#[cfg(test)]
mod tests;
