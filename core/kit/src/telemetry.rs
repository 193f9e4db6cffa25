//! Logs and traces.
//!
//! Logs go to standard error as text or JSON. Traces follow W3C Trace Context: [`RequestTrace`] takes what came with a
//! request, makes a span under it, and passes it on. Spans are exported by OTLP (HTTP, protobuf) when the standard
//! `OTEL_*` variables name an endpoint. When they do not, nothing of OpenTelemetry is started: no task, no thread, no
//! span, no certificate is loaded.
//!
//! # Guarantees
//! * The exporter runs as a task of the runtime in which [`init`] was called, a current-thread one included, and is
//!   owned by [`Telemetry`]: [`Telemetry::shutdown`] exports what is left and waits for it.
//! * A collector that is slow or gone costs spans, never requests: the queue is bounded and drops.
//! * Bare levels below `info` open the logs of Pawl only. Other crates log what passes over their wires at such levels;
//!   they have to be named (`PAWL_LOG=info,hyper=trace`).

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

mod context;
mod export;
mod otlp;
mod request;
mod transport;

pub use context::{TraceContext, TraceId};
pub use request::RequestTrace;

/// The target of request spans. They are at debug level: seen when something exports them or when it is asked for.
const REQUEST_TARGET: &str = "pawl::request";

/// What all targets of Pawl begin with.
const OURS: &str = "pawl";

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A value that is neither `text` nor `json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the log format is `text` or `json`")]
pub struct InvalidLogFormat;

impl FromStr for LogFormat {
    type Err = InvalidLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidLogFormat),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Which lines are logged: a level, or a list in the manner of `RUST_LOG` such as `info,pawl_sidecar=debug`.
#[derive(Clone, PartialEq, Debug)]
pub struct LogFilter(Targets);

/// A text that is no filter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}; give error, warn, info, debug or trace, or a list such as info,pawl_sidecar=debug")]
pub struct InvalidLogFilter(String);

impl FromStr for LogFilter {
    type Err = InvalidLogFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let given = Targets::from_str(text).map_err(|error| InvalidLogFilter(error.to_string()))?;
        let Some(level) = given
            .default_level()
            .filter(|level| *level > LevelFilter::INFO)
        else {
            return Ok(Self(given));
        };
        let ours_is_given = given.iter().any(|(target, _)| target == OURS);
        let capped = given.with_default(LevelFilter::INFO);
        Ok(Self(if ours_is_given {
            capped
        } else {
            capped.with_target(OURS, level)
        }))
    }
}

impl Default for LogFilter {
    /// `info`.
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

/// How to log, and as whom to export.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program: `service.name` of spans when neither `OTEL_SERVICE_NAME` nor `OTEL_RESOURCE_ATTRIBUTES` says it.
    pub service: &'static str,
    /// The program's version: `service.version` of spans.
    pub version: &'static str,
    /// How log lines look.
    pub format: LogFormat,
    /// Which lines are logged.
    pub filter: LogFilter,
}

/// Telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A subscriber is there already.
    #[error("logging is set up already")]
    Taken,
    /// An `OTEL_*` variable cannot be used.
    #[error("traces cannot be exported: {0}")]
    Exporter(String),
}

impl TelemetryError {
    /// A short word for the log.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Exporter(_) => "exporter",
        }
    }
}

/// The running telemetry. Keep it until the end and shut it down last; dropping it discards spans not yet exported.
#[derive(Debug)]
#[must_use = "spans that are not yet exported are lost when it is dropped"]
pub struct Telemetry(Option<export::Exporter>);

impl Telemetry {
    /// Whether spans are exported.
    pub const fn exports(&self) -> bool {
        self.0.is_some()
    }

    /// Exports what is left, for at most five seconds, and ends the exporter. At once when nothing is exported.
    pub async fn shutdown(self) {
        if let Some(exporter) = self.0 {
            exporter.shutdown().await;
        }
    }
}

/// Starts logging to standard error, and the export of spans when the environment asks for it. Once per process. When
/// spans are exported it must be called inside a tokio runtime, in which the exporter then runs.
///
/// # Errors
/// When `OTEL_*` variables cannot be used, or logging is set up already.
pub fn init(options: &Options) -> Result<Telemetry, TelemetryError> {
    let ansi = std::io::stderr().is_terminal();
    let (subscriber, telemetry) = build(options, std::io::stderr, ansi)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Taken)?;
    Ok(telemetry)
}

fn build<W>(
    options: &Options,
    writer: W,
    ansi: bool,
) -> Result<(impl Subscriber + Send + Sync + use<W>, Telemetry), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (tracer, exporter) = otlp::start(options)?.unzip();
    let LogFilter(mut lines) = options.filter.clone();
    if tracer.is_some() {
        // The span is made anyway: let lines show its trace id.
        lines = lines.with_target(REQUEST_TARGET, LevelFilter::DEBUG);
    }
    let log = fmt_layer(options.format, writer, ansi).with_filter(lines);
    let spans = tracer.map(|tracer| {
        let spans = Targets::new()
            .with_target(OURS, LevelFilter::INFO)
            .with_target(REQUEST_TARGET, LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(spans)
    });
    Ok((
        Registry::default().with(log).with(spans),
        Telemetry(exporter),
    ))
}

fn fmt_layer<W>(format: LogFormat, writer: W, ansi: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(ansi).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    }
}

#[cfg(test)]
mod tests;
