//! From a request to a verb and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::limits::{MAX_BODY, MAX_DELAY, MAX_TOKEN, READ_LIMIT};
use super::problem::BankError;
use super::teller::Caller;
use super::{Bank, api, page, report};
use crate::units::parse_duration;

/// Answers a request.
pub(super) async fn answer(bank: Arc<Bank>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = route(&bank, request).await;
    match &answer {
        Ok(answer) => tracing::debug!(%method, path, status = answer.status().as_u16(), "answered"),
        Err(error) => tracing::debug!(%method, path, code = error.code(), %error, "refused"),
    }
    answer.unwrap_or_else(|error| error.response())
}

async fn route(
    bank: &Bank,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, BankError> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    Ok(match (segments.as_slice(), &method) {
        (["api", "balance", "init"], &Method::POST) => json_of(
            StatusCode::OK,
            &api::balance::init(bank, body(request).await?).await?,
        ),
        (["api", "balance", "init"], _) => return Err(BankError::Method("POST")),
        (["api", "balance", user_id], &Method::GET) => {
            json_of(StatusCode::OK, &api::balance::get(bank, user_id).await?)
        }
        (["api", "balance", _], _) => return Err(BankError::Method("GET")),
        (["api", "deduct"], &Method::POST) => {
            let caller = caller(request.headers())?;
            json_of(
                StatusCode::OK,
                &api::deduct::deduct(bank, body(request).await?, caller).await?,
            )
        }
        (["api", "payment"], &Method::POST) => {
            let caller = caller(request.headers())?;
            json_of(
                StatusCode::OK,
                &api::payment::pay(bank, body(request).await?, caller).await?,
            )
        }
        (["api", "deduct" | "payment"], _) => return Err(BankError::Method("POST")),
        (["api", "orders", id], &Method::GET) => {
            json_of(StatusCode::OK, &api::orders::get(bank, id).await?)
        }
        (["api", "orders", id], &Method::POST) => {
            let caller = caller(request.headers())?;
            json_of(
                StatusCode::CREATED,
                &api::orders::create(bank, id, body(request).await?, caller).await?,
            )
        }
        (["api", "orders", id], &Method::PATCH) => {
            let caller = caller(request.headers())?;
            json_of(
                StatusCode::OK,
                &api::orders::patch(bank, id, body(request).await?, caller).await?,
            )
        }
        (["api", "orders", _], _) => return Err(BankError::Method("GET, POST, PATCH")),
        (["api", "status"], &Method::GET) => json_of(StatusCode::OK, &report::own(bank).await),
        (["api", "overview"], &Method::GET) => {
            json_of(StatusCode::OK, &report::overview(bank).await?)
        }
        (["livez"], &Method::GET) => json_of(StatusCode::OK, &json!({"status": "ok"})),
        (["readyz"], &Method::GET) => {
            bank.teller.store.totals().await?;
            json_of(StatusCode::OK, &json!({"status": "ok"}))
        }
        (["metrics"], &Method::GET) => {
            let text = bank.metrics.text(&bank.teller.store.totals().await?);
            typed("text/plain; version=0.0.4; charset=utf-8", text.into())
        }
        (["api", "status" | "overview"] | ["livez" | "readyz" | "metrics"], _) => {
            return Err(BankError::Method("GET"));
        }
        ([name], &Method::GET) => page::file(name).ok_or(BankError::NoRoute)?,
        _ => return Err(BankError::NoRoute),
    })
}

/// What the caller's headers say.
fn caller(headers: &HeaderMap) -> Result<Caller, BankError> {
    let text = |name: &'static str| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(BankError::Invalid(format!("{name}: write ASCII"))),
    };
    let token = text("x-fence-token")?.map(|text| match text.parse() {
        Ok(token) if (1..=MAX_TOKEN).contains(&token) => Ok(token),
        _ => Err(BankError::Invalid(format!(
            "X-Fence-Token: write a whole number from 1 to {MAX_TOKEN}"
        ))),
    });
    let delay = text("x-simulate-delay")?.map(|text| match parse_duration(text) {
        Ok(delay) if delay <= MAX_DELAY => Ok(delay),
        Ok(_) => Err(BankError::Invalid(format!(
            "X-Simulate-Delay: at most {}s",
            MAX_DELAY.as_secs()
        ))),
        Err(error) => Err(BankError::Invalid(format!("X-Simulate-Delay: {error}"))),
    });
    Ok(Caller {
        token: token.transpose()?,
        delay: delay.transpose()?.unwrap_or(Duration::ZERO),
    })
}

/// Reads a JSON body.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, BankError> {
    let media = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let media = media.split(';').next().unwrap_or("").trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(BankError::MediaType);
    }
    let whole = Limited::new(request.into_body(), MAX_BODY).collect();
    let bytes = match tokio::time::timeout(READ_LIMIT, whole).await {
        Err(_) => return Err(BankError::Slow),
        Ok(Err(e)) if e.is::<LengthLimitError>() => return Err(BankError::TooLarge),
        Ok(Err(_)) => return Err(BankError::Malformed("the body was cut off".to_owned())),
        Ok(Ok(body)) => body.to_bytes(),
    };
    serde_json::from_slice(&bytes).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => BankError::Invalid(e.to_string()),
        _ => BankError::Malformed(format!("the body is not JSON: {e}")),
    })
}

fn json_of(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = typed("application/json", crate::wire::json(value));
    *response.status_mut() = status;
    response
}

/// A response of a media type that is never cached.
pub(super) fn typed(media: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| {
                (
                    hyper::header::HeaderName::from_static(n),
                    HeaderValue::from_static(v),
                )
            })
            .collect()
    }

    #[test]
    fn a_callers_headers_are_read_or_refused() {
        let read = caller(&headers(&[
            ("x-fence-token", "9007199254740991"),
            ("x-simulate-delay", "250ms"),
        ]))
        .unwrap();
        assert_eq!(
            (read.token, read.delay),
            (Some(MAX_TOKEN), Duration::from_millis(250))
        );
        for bad in ["0", "-1", "1.5", "9007199254740992", "", "x"] {
            let e = caller(&headers(&[("x-fence-token", bad)])).unwrap_err();
            assert_eq!(e.code(), "invalid", "{bad}");
        }
        for bad in ["5", "301s", "-1s", ""] {
            assert!(
                caller(&headers(&[("x-simulate-delay", bad)])).is_err(),
                "{bad}"
            );
        }
    }
}
