//! Logs in memory, and spans as a real collector on the loopback gets them from a process of its own.

use std::convert::Infallible;
use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span as Exported;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", PARENT.parse().unwrap());
    headers.insert("tracestate", "vendor=1".parse().unwrap());
    headers
}

fn options(format: LogFormat, filter: &str) -> Options {
    Options {
        service: "pawl-test",
        version: "1.2.3",
        format,
        filter: filter.parse().unwrap(),
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `work` with a subscriber of its own and answers the lines it logged. No OTLP endpoint is set in tests.
fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let (subscriber, telemetry) =
        build(&options(format, filter), move || writer.clone(), false).unwrap();
    assert!(!telemetry.exports());
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_json_line_is_one_object_with_its_fields() {
    let line = logged(LogFormat::Json, "info", || {
        tracing::info!(policy = "payments", "reloaded \"it\"");
        tracing::debug!("not this");
    });
    let value: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!(
        (&value["level"], &value["policy"]),
        (&"INFO".into(), &"payments".into())
    );
    assert_eq!(value["message"], "reloaded \"it\"");
    assert!(
        value["timestamp"].as_str().unwrap().ends_with('Z'),
        "{line}"
    );
}

#[test]
fn a_bare_level_opens_the_logs_of_pawl_alone() {
    let all = || {
        tracing::trace!(target: "pawl_sidecar::api", "ours");
        tracing::debug!(target: "pawl::request", "ours too");
        tracing::debug!(target: "hyper::proto", "with header values");
        tracing::info!(target: "hyper", "fine");
    };
    let lines = logged(LogFormat::Text, "trace", all);
    assert!(
        lines.contains("ours\n") && lines.contains("ours too") && lines.contains("fine"),
        "{lines}"
    );
    assert!(!lines.contains("with header values"), "{lines}");
    let lines = logged(LogFormat::Text, "warn,hyper=debug", all);
    assert!(
        lines.contains("with header values") && !lines.contains("ours"),
        "{lines}"
    );
    let lines = logged(LogFormat::Text, "debug,pawl=warn", all);
    assert!(!lines.contains("ours") && lines.contains("fine"), "{lines}");
}

#[test]
fn a_filter_that_is_none_is_refused_with_the_remedy() {
    let error = "pawl=loud".parse::<LogFilter>().unwrap_err();
    assert!(
        error.to_string().contains("give error, warn, info"),
        "{error}"
    );
    assert!("yaml".parse::<LogFormat>().is_err());
    for format in [LogFormat::Text, LogFormat::Json] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
}

#[test]
fn without_a_listener_a_request_has_no_span_and_still_its_trace_id() {
    let lines = logged(LogFormat::Text, "info", || {
        let request = RequestTrace::begin(&headers(), &Method::POST, "/v1/locks/{policy}/{key}");
        assert!(request.span().is_disabled());
        assert_eq!(request.trace_id().unwrap().to_string(), TRACE);
        request.answered(StatusCode::OK);
        let mut outgoing = HeaderMap::new();
        request.inject(&mut outgoing);
        assert_eq!(outgoing, headers(), "passed on as it came");
        let none = RequestTrace::begin(&HeaderMap::new(), &Method::GET, "/");
        assert!(none.trace_id().is_none());
        none.inject(&mut outgoing);
    });
    assert_eq!(lines, "");
}

#[test]
fn a_line_within_a_request_carries_its_trace_id_when_asked_for() {
    let line = logged(LogFormat::Json, "debug", || {
        let request = RequestTrace::begin(&headers(), &Method::POST, "/v1/locks/{policy}/{key}");
        request.span().in_scope(|| tracing::info!("granted"));
    });
    let value: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!(value["span"]["trace_id"], TRACE, "{line}");
}

/// What the processes below do: one request, traced and logged, and a clean end.
#[test]
#[ignore = "the tests below run it as a process of its own, with OTEL_* variables"]
fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let telemetry = init(&options(LogFormat::Json, "info")).unwrap();
        assert!(
            matches!(
                init(&options(LogFormat::Json, "info")),
                Err(TelemetryError::Taken)
            ) || telemetry.exports()
        );
        let headers = if std::env::var_os("PAWL_TEST_ROOT").is_some() {
            HeaderMap::new()
        } else {
            headers()
        };
        let request = RequestTrace::begin(&headers, &Method::POST, "/v1/locks/{policy}/{key}");
        let mut outgoing = HeaderMap::new();
        request.inject(&mut outgoing);
        let sent = outgoing
            .get("traceparent")
            .map(|parent| parent.to_str().unwrap().to_owned());
        async {
            tracing::info!(trace = ?request.trace_id(), ?sent, "granted");
            tracing::debug_span!(target: "hyper::proto", "not ours").in_scope(|| {});
        }
        .instrument(request.span().clone())
        .await;
        request.answered(StatusCode::SERVICE_UNAVAILABLE);
        drop(request);
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
        tracing::info!(threads, exports = telemetry.exports(), "ending");
        if std::env::var_os("PAWL_TEST_LINGER").is_some() {
            // Long enough for the exporter to take the span into a batch, far too short for the batch to be due.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        telemetry.shutdown().await;
    });
}

/// A collector that answers `answer` and hands on what it got.
struct Collector {
    endpoint: String,
    received: mpsc::UnboundedReceiver<(http::request::Parts, ExportTraceServiceRequest)>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start(answer: StatusCode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let sender = sender.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let _ =
                            sender.send((parts, ExportTraceServiceRequest::decode(body).unwrap()));
                        let mut response = Response::new(Full::new(Bytes::new()));
                        *response.status_mut() = answer;
                        Ok::<_, Infallible>(response)
                    }
                });
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .unwrap();
            }
        });
        Self {
            endpoint,
            received,
            _serving: serving,
        }
    }

    async fn next(&mut self) -> (http::request::Parts, ExportTraceServiceRequest) {
        let next = tokio::time::timeout(Duration::from_mins(1), self.received.recv()).await;
        next.expect("an export within a minute").unwrap()
    }
}

async fn run_child(env: &[(&str, &str)]) -> (Output, Vec<serde_json::Value>) {
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "telemetry::tests::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), child)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(output.status.success(), "{output:?}");
    (output, lines)
}

fn only_span(request: &ExportTraceServiceRequest) -> Exported {
    let spans: Vec<_> = request
        .resource_spans
        .iter()
        .flat_map(|r| &r.scope_spans)
        .flat_map(|s| &s.spans)
        .collect();
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans[0].clone()
}

fn resource(request: &ExportTraceServiceRequest, key: &str) -> Option<String> {
    let attributes = &request.resource_spans[0].resource.as_ref()?.attributes;
    let value = attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()?;
    Some(format!("{:?}", value.value.as_ref()?))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn a_collector_gets_the_span_under_the_callers_trace() {
    let mut collector = Collector::start(StatusCode::OK).await;
    let (_, lines) = run_child(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
    ])
    .await;
    let (parts, request) = collector.next().await;
    assert_eq!(
        (parts.method.as_str(), parts.uri.path()),
        ("POST", "/v1/traces")
    );
    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
    assert_eq!(parts.headers["x-tenant"], "blue");
    assert!(
        resource(&request, "service.name")
            .unwrap()
            .contains("pawl-test")
    );
    assert!(
        resource(&request, "service.version")
            .unwrap()
            .contains("1.2.3")
    );
    assert!(
        resource(&request, "deployment.environment.name")
            .unwrap()
            .contains("test")
    );

    let span = only_span(&request);
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(span.trace_state, "vendor=1");
    assert_eq!(
        (span.name.as_str(), span.kind),
        ("POST /v1/locks/{policy}/{key}", 2)
    );
    assert_eq!(span.status.unwrap().code, SpanStatus::Error as i32);
    let attribute = |key: &str| {
        let found = span
            .attributes
            .iter()
            .find(|attribute| attribute.key == key);
        format!("{:?}", found.unwrap_or_else(|| panic!("{key}")).value)
    };
    assert!(attribute("http.response.status_code").contains("503"));
    assert!(attribute("http.route").contains("/v1/locks/{policy}/{key}"));

    let granted = lines
        .iter()
        .find(|line| line["message"] == "granted")
        .unwrap();
    assert_eq!(
        granted["span"]["trace_id"], TRACE,
        "the line carries the trace id: {granted}"
    );
    let sent = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert!(
        granted["sent"].as_str().unwrap().contains(&sent),
        "passed on under the new span: {granted}"
    );
    let ending = lines
        .iter()
        .find(|line| line["message"] == "ending")
        .unwrap();
    assert_eq!(ending["exports"], true);
}

#[tokio::test]
async fn the_environment_names_service_endpoint_and_sampler() {
    let mut collector = Collector::start(StatusCode::OK).await;
    let endpoint = format!("{}/custom", collector.endpoint);
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str());
    run_child(&[
        traces,
        ("OTEL_SERVICE_NAME", "mine"),
        ("PAWL_TEST_ROOT", "1"),
    ])
    .await;
    let (parts, request) = collector.next().await;
    assert_eq!(parts.uri.path(), "/custom");
    assert!(resource(&request, "service.name").unwrap().contains("mine"));
    let span = only_span(&request);
    assert!(
        span.parent_span_id.is_empty() && span.trace_id.iter().any(|byte| *byte != 0),
        "a new trace"
    );

    let off = ("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    run_child(&[traces, off, ("PAWL_TEST_ROOT", "1")]).await;
    assert!(
        collector.received.try_recv().is_err(),
        "a trace begun here is not sampled"
    );
    run_child(&[traces, off, ("PAWL_TEST_LINGER", "1")]).await;
    let (_, request) = collector.next().await;
    assert_eq!(
        hex(&only_span(&request).trace_id),
        TRACE,
        "the caller's decision counts"
    );
}

#[tokio::test]
async fn a_collector_that_is_away_or_refuses_is_told_once_and_costs_nothing_else() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (_, lines) = run_child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{gone}"))]).await;
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "spans cannot be exported")
        .collect();
    assert_eq!(told.len(), 1, "{lines:?}");
    assert!(
        told[0]["cause"].as_str().unwrap().contains("refused"),
        "{told:?}"
    );

    let mut collector = Collector::start(StatusCode::FORBIDDEN).await;
    let (_, lines) = run_child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await;
    collector.next().await;
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "spans cannot be exported")
        .collect();
    assert_eq!(told.len(), 1, "{lines:?}");
    assert!(
        told[0]["cause"].as_str().unwrap().contains("403"),
        "{told:?}"
    );
}

#[tokio::test]
async fn nothing_is_started_when_it_is_disabled() {
    let mut collector = Collector::start(StatusCode::OK).await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    let threads = |lines: &[serde_json::Value]| {
        let ending = lines
            .iter()
            .find(|line| line["message"] == "ending")
            .unwrap();
        (
            ending["exports"].as_bool().unwrap(),
            ending["threads"].as_u64().unwrap(),
        )
    };
    let (_, lines) = run_child(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).await;
    let (exports, without) = threads(&lines);
    assert!(!exports);
    assert!(collector.received.try_recv().is_err());
    let (_, lines) = run_child(&[endpoint]).await;
    assert_eq!(
        threads(&lines),
        (true, without),
        "the exporter has no thread of its own"
    );
}
