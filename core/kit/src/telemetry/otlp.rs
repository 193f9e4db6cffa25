//! The export of spans as the standard `OTEL_*` variables ask for it
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanExporter as _};

use super::export::{Batching, Exporter};
use super::transport::{Files, Transport};
use super::{Options, TelemetryError};

const TIMEOUT: Duration = Duration::from_secs(10);
const SERVICE_NAME: Key = Key::from_static_str("service.name");
const SERVICE_VERSION: Key = Key::from_static_str("service.version");

/// Starts the export; `None` when the environment does not ask for it.
///
/// It is asked for by `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, unless `OTEL_SDK_DISABLED`
/// is `true` or `OTEL_TRACES_EXPORTER` is `none`. Headers, time limits, sampler, resource, batch sizes and certificates
/// are taken from the standard variables too.
pub(super) fn start(options: &Options) -> Result<Option<(SdkTracer, Exporter)>, TelemetryError> {
    if !is_asked_for(&variable)? {
        return Ok(None);
    }
    let transport = Arc::new(Transport::new(timeout(&variable), files(&variable)));
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_shared_http_client(Arc::clone(&transport) as _)
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    let resource = resource(options);
    exporter.set_resource(&resource);
    let (queue, exporter) = Exporter::start(exporter, transport, Batching::from_env(&variable));
    // The sampler is the SDK's default: OTEL_TRACES_SAMPLER, or parentbased_always_on.
    let provider = SdkTracerProvider::builder()
        .with_span_processor(queue)
        .with_resource(resource)
        .build();
    Ok(Some((provider.tracer("pawl"), exporter)))
}

/// A variable of the environment; the empty text counts as not set, as the specification tells.
fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

/// A variable that may be set for traces alone or for all signals.
fn for_traces(read: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    read(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
        .or_else(|| read(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

fn is_asked_for(read: &impl Fn(&str) -> Option<String>) -> Result<bool, TelemetryError> {
    let disabled =
        read("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || for_traces(read, "ENDPOINT").is_none() {
        return Ok(false);
    }
    match read("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(false),
        Some(other) => {
            let text = format!("OTEL_TRACES_EXPORTER is `{other}`; give otlp or none");
            return Err(TelemetryError::Exporter(text));
        }
    }
    match for_traces(read, "PROTOCOL").as_deref() {
        None | Some("http/protobuf") => Ok(true),
        Some(other) => Err(TelemetryError::Exporter(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is `{other}`; give http/protobuf, the collector's port 4318"
        ))),
    }
}

fn timeout(read: &impl Fn(&str) -> Option<String>) -> Duration {
    let millis = for_traces(read, "TIMEOUT").and_then(|millis| millis.trim().parse().ok());
    millis.map_or(TIMEOUT, Duration::from_millis)
}

fn files(read: &impl Fn(&str) -> Option<String>) -> Files {
    Files {
        authorities: for_traces(read, "CERTIFICATE").map(Into::into),
        certificate: for_traces(read, "CLIENT_CERTIFICATE").map(Into::into),
        key: for_traces(read, "CLIENT_KEY").map(Into::into),
    }
}

/// Who exports: the environment's word first, the program's own for what it leaves out.
fn resource(options: &Options) -> Resource {
    let said = Resource::builder().build();
    let mut builder = Resource::builder();
    let unnamed = said
        .get(&SERVICE_NAME)
        .is_none_or(|name| name.as_str().starts_with("unknown_service"));
    if unnamed {
        builder = builder.with_service_name(options.service);
    }
    if said.get(&SERVICE_VERSION).is_none() {
        builder = builder.with_attribute(KeyValue::new(SERVICE_VERSION, options.version));
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_named() {
        let asked = |set: &[(&str, &str)]| is_asked_for(&read(set)).unwrap();
        assert!(!asked(&[]));
        assert!(!asked(&[
            ("OTEL_SERVICE_NAME", "x"),
            ("OTEL_TRACES_EXPORTER", "otlp")
        ]));
        assert!(asked(&[ENDPOINT]));
        assert!(asked(&[(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://c/v1/traces"
        )]));
        assert!(!asked(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]));
        assert!(asked(&[ENDPOINT, ("OTEL_SDK_DISABLED", "no")]));
        assert!(!asked(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]));
    }

    #[test]
    fn what_it_cannot_do_is_told() {
        let refused = |set: &[(&str, &str)]| is_asked_for(&read(set)).unwrap_err().to_string();
        let text = refused(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(text.contains("`grpc`; give http/protobuf"), "{text}");
        assert!(refused(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "jaeger")]).contains("`jaeger`"));
        let both = [
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ];
        assert!(is_asked_for(&read(&both)).unwrap());
    }

    #[test]
    fn what_is_said_for_traces_counts_before_what_is_said_for_all() {
        assert_eq!(timeout(&read(&[])), TIMEOUT);
        assert_eq!(
            timeout(&read(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "50")])),
            Duration::from_millis(50)
        );
        let both = [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "50"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "7"),
        ];
        assert_eq!(timeout(&read(&both)), Duration::from_millis(7));
        let files = files(&read(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")]));
        assert_eq!(
            files.authorities.as_deref(),
            Some(std::path::Path::new("/ca.pem"))
        );
    }
}
