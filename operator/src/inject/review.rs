//! One `AdmissionReview`: read, decided, answered.
//!
//! It is read as raw JSON. The types of `kube` read the pod into structures, and write a patch as a list of numbers; both
//! work, and neither is what the API server's own types say.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use kube::core::admission::{META_API_VERSION_V1, META_KIND};
use pawl_kit::problem::Problem;
use serde_json::{Value, json};

use super::{
    Config,
    metrics::Outcome,
    mutate::{Mutation, mutate},
    pod::Pod,
    refusal,
};

/// Longest uid that is repeated, in bytes; the API server's have 36.
const MAX_UID: usize = 256;

/// Why there is no review to answer. The API server's own requests never are like that.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// JSON of something else.
    #[error("the body is not a {META_KIND} of {META_API_VERSION_V1}")]
    Kind,
    /// A review without a question.
    #[error("the review has no request")]
    NoRequest,
    /// An answer could not be matched to the question.
    #[error("the request has no uid")]
    NoUid,
}

impl ReviewError {
    /// A word for it.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Kind => "kind",
            Self::NoRequest => "no_request",
            Self::NoUid => "no_uid",
        }
    }

    pub(super) fn problem(&self) -> Problem {
        let title = "This is no admission review";
        Problem::new(StatusCode::BAD_REQUEST, "invalid_review", title)
            .with_detail(self.to_string())
            .with_reason(self.category())
    }
}

/// The answer to a review, and how it ended.
///
/// # Errors
/// [`ReviewError`] for what cannot be answered with a review.
pub fn review(config: &Config, body: &[u8]) -> Result<(Value, Outcome), ReviewError> {
    let review: Value = serde_json::from_slice(body).map_err(ReviewError::Json)?;
    if review["kind"] != META_KIND || review["apiVersion"] != META_API_VERSION_V1 {
        return Err(ReviewError::Kind);
    }
    let request = &review["request"];
    if !request.is_object() {
        return Err(ReviewError::NoRequest);
    }
    let uid = request["uid"].as_str().unwrap_or_default();
    if uid.is_empty() || uid.len() > MAX_UID {
        return Err(ReviewError::NoUid);
    }
    let mut response = json!({"uid": uid, "allowed": true});
    let outcome = match decide(config, request) {
        Verdict::Skip => Outcome::Skipped,
        Verdict::Deny(message) => {
            response["allowed"] = false.into();
            response["status"] = json!({
                "status": "Failure",
                "reason": "Invalid",
                "code": StatusCode::UNPROCESSABLE_ENTITY.as_u16(),
                "message": message,
            });
            Outcome::Denied
        }
        Verdict::Allow(mutation) => allow(&mut response, mutation),
    };
    tell(request, outcome, &response["status"]["message"]);
    let answer = json!({
        "apiVersion": META_API_VERSION_V1,
        "kind": META_KIND,
        "response": response,
    });
    Ok((answer, outcome))
}

enum Verdict {
    Allow(Mutation),
    Skip,
    Deny(String),
}

fn decide(config: &Config, request: &Value) -> Verdict {
    let deny = |message: &str| Verdict::Deny(message.to_owned());
    let kind = &request["kind"];
    let group = kind["group"].as_str().unwrap_or_default();
    if !group.is_empty() || kind["version"] != "v1" || kind["kind"] != "Pod" {
        return deny("this webhook reviews pods (v1) only: look at its rules");
    }
    let part = request["subResource"].as_str().unwrap_or_default();
    if !part.is_empty() {
        return deny("this webhook reviews whole pods, not parts of them: look at its rules");
    }
    match request["operation"].as_str() {
        Some("CREATE") => {}
        Some("UPDATE" | "DELETE") => return Verdict::Skip,
        _ => return deny("this webhook reviews the creation of pods: look at its rules"),
    }
    let pod = &request["object"];
    if !pod.is_object() {
        return deny("the request has no pod in it");
    }
    if !Pod::is_labelled(pod) {
        return Verdict::Skip;
    }
    // A pod that is made by a controller has its namespace in the request alone.
    let namespaces = [&request["namespace"], &pod["metadata"]["namespace"]];
    let mut namespaces = namespaces.into_iter().filter_map(Value::as_str);
    let Some(namespace) = namespaces.find(|namespace| !namespace.is_empty()) else {
        return deny("the request names no namespace");
    };
    match mutate(config, namespace, pod) {
        Ok(mutation) => Verdict::Allow(mutation),
        Err(refusals) => Verdict::Deny(refusal::joined(&refusals)),
    }
}

fn allow(response: &mut Value, mutation: Mutation) -> Outcome {
    let Mutation { patch, warnings } = mutation;
    if !warnings.is_empty() {
        response["warnings"] = warnings.into();
    }
    if patch.0.is_empty() {
        return Outcome::Unchanged;
    }
    response["patchType"] = "JSONPatch".into();
    response["patch"] = STANDARD.encode(json!(patch).to_string()).into();
    Outcome::Patched
}

fn tell(request: &Value, outcome: Outcome, reason: &Value) {
    let meta = &request["object"]["metadata"];
    let name = [&meta["name"], &meta["generateName"]]
        .into_iter()
        .filter_map(Value::as_str)
        .find(|name| !name.is_empty());
    let (namespace, name) = (&request["namespace"], name.unwrap_or_default());
    let (namespace, result) = (namespace.as_str().unwrap_or_default(), outcome.as_str());
    match outcome {
        Outcome::Denied => {
            let reason = reason.as_str().unwrap_or_default();
            tracing::info!(namespace, pod = name, result, reason, "pod reviewed");
        }
        Outcome::Patched => tracing::info!(namespace, pod = name, result, "pod reviewed"),
        Outcome::Unchanged | Outcome::Skipped | Outcome::Invalid => {
            tracing::debug!(namespace, pod = name, result, "pod reviewed");
        }
    }
}

#[cfg(test)]
mod tests;
