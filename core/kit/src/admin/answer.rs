//! What the admin server answers.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use prometheus::{Encoder, TextEncoder};

use super::Admin;
use crate::problem::Problem;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const NOT_FOUND: Problem = Problem::new(
    StatusCode::NOT_FOUND,
    "not_found",
    "There is nothing at this path",
);
const METHOD: Problem = Problem::new(
    StatusCode::METHOD_NOT_ALLOWED,
    "method_not_allowed",
    "The method is not allowed at this path",
);
const METRICS: Problem = Problem::new(
    StatusCode::INTERNAL_SERVER_ERROR,
    "metrics_failed",
    "The metrics cannot be written",
);

impl Admin {
    /// The answer to one request. Never blocks.
    pub(super) fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let answer: fn(&Self) -> Response<Full<Bytes>> = match path {
            "/livez" => |_| respond(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => Self::readyz,
            "/metrics" => Self::metrics,
            "/status" => |admin| respond(StatusCode::OK, JSON, admin.status.status().to_string()),
            _ => {
                let detail = "this server has /livez, /readyz, /metrics and /status";
                return NOT_FOUND.with_detail(detail).to_response();
            }
        };
        // hyper leaves out the body of an answer to HEAD.
        if method == Method::GET || method == Method::HEAD {
            return answer(self);
        }
        let mut refused = METHOD.to_response();
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let report = self.readiness.report();
        let status = if report.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        respond(
            status,
            JSON,
            serde_json::to_vec(&report).unwrap_or_default(),
        )
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        match encoder.encode(&self.registry.gather(), &mut text) {
            Ok(()) => respond(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            ),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                METRICS.to_response()
            }
        }
    }
}

fn respond(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
