//! `pawl-operator check-webhook`: does the API server reach the webhook?
//!
//! It asks the API server, by a dry run, for a pod that the webhook has to refuse: one that is bound to no policy, at a port that is none. The
//! refusal can only come from the webhook, so it shows that the whole way works: the configuration, the Service, the
//! certificate and the operator. Nothing is stored, and no policy has to be there.
//!
//! | the API server answers | it means |
//! |---|---|
//! | denied by the webhook | it works |
//! | created | no webhook was asked: its configuration is missing or does not select the namespace |
//! | anything else | it was not reached (yet): tried again until the time is over |

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::PostParams, core::response::Status};
use pawl_crds::{
    ApiDuration,
    names::{annotations, labels},
};
use pawl_kit::config::EX_USAGE;
use serde_json::json;

/// Name of the webhook in its configuration, as the API server names it in a refusal.
pub const WEBHOOK: &str = "inject.pawl.dev";
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until the API server reaches the webhook; changes nothing.
#[derive(Parser, Debug)]
#[command(name = "pawl-operator check-webhook", version, max_term_width = 110)]
struct Args {
    /// A namespace that the webhook serves; the account has to be allowed to create pods there
    #[arg(long, env = "POD_NAMESPACE", value_name = "NS")]
    namespace: String,
    /// How long to try
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    timeout: ApiDuration,
}

/// Runs the subcommand; `args` begin with its name. Exits 0 when the webhook answered, 1 when it did not, 64 for
/// arguments that cannot be used.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Nowhere to tell it if standard error is closed.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let client = Client::try_default().await.map_err(CheckError::Client)?;
            check(client, &args.namespace, args.timeout.as_std()).await
        }),
        Err(error) => {
            eprintln!("pawl-operator: {error}");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => {
            println!("the webhook answers");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pawl-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why the webhook is not there.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no way to the API server.
    #[error("the API server cannot be reached: {0}")]
    Client(#[source] kube::Error),
    /// The time is over.
    #[error("the webhook does not answer within {within:?}: {last}")]
    Silent {
        /// The time that was given.
        within: Duration,
        /// What the last try said.
        last: String,
    },
}

impl CheckError {
    /// A word for it.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Silent { .. } => "silent",
        }
    }
}

/// What one try showed.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    NotYet(String),
}

/// Tries until the webhook answers, for as long as `within`. Cancel safe.
///
/// # Errors
/// [`CheckError::Silent`] with what the last try said.
pub async fn check(client: Client, namespace: &str, within: Duration) -> Result<(), CheckError> {
    let mut last = "not tried".to_owned();
    let tries = async {
        loop {
            match once(&client, namespace).await {
                Verdict::Works => return,
                Verdict::NotYet(why) => {
                    tracing::info!(why, "the webhook does not answer yet");
                    last = why;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let ended = tokio::time::timeout(within, tries).await;
    ended.map_err(|_| CheckError::Silent { within, last })
}

async fn once(client: &Client, namespace: &str) -> Verdict {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match pods.create(&dry_run, &pod()).await {
        Ok(_) => Verdict::NotYet(format!(
            "no webhook reviews pods of the namespace {namespace}"
        )),
        Err(kube::Error::Api(status)) => judge(&status),
        Err(error) => Verdict::NotYet(error.to_string()),
    }
}

fn judge(status: &Status) -> Verdict {
    let denied = format!("admission webhook \"{WEBHOOK}\" denied the request");
    if status.message.contains(&denied) {
        Verdict::Works
    } else {
        Verdict::NotYet(status.message.clone())
    }
}

/// It has the label, names no policy, and is fit for a namespace that enforces `restricted`.
fn pod() -> Pod {
    let pod = json!({
        "metadata": {
            "generateName": "pawl-check-",
            "labels": {labels::INJECT: "true"},
            "annotations": {annotations::POLICIES: "", annotations::PORT: "0"},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "check",
                "image": "never-started",
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    serde_json::from_value(pod).expect("it is a pod")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Verdict {
        judge(&Status::failure(message, "Forbidden"))
    }

    #[test]
    fn only_the_webhooks_own_refusal_shows_that_it_works() {
        let denied = "admission webhook \"inject.pawl.dev\" denied the request: pawl.dev/policies: names no policy";
        assert_eq!(said(denied), Verdict::Works);
        for other in [
            "Internal error occurred: failed calling webhook \"inject.pawl.dev\": failed to call webhook: connection refused",
            "admission webhook \"other.example.org\" denied the request: no",
            "pods is forbidden: User \"x\" cannot create resource \"pods\"",
        ] {
            assert_eq!(said(other), Verdict::NotYet(other.to_owned()));
        }
    }

    #[test]
    fn the_pod_asks_for_a_sidecar_and_names_no_policy() {
        let pod = pod();
        assert_eq!(pod.metadata.labels.unwrap()[labels::INJECT], "true");
        assert_eq!(pod.metadata.annotations.unwrap()[annotations::POLICIES], "");
    }
}
