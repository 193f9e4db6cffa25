//! Whether a policy can be given to sidecars.
//!
//! The API server has judged it already, by the schema that is installed. This finds what another version of the schema
//! let through: the operator may be newer or older than the definition.

use pawl_crds::{BackendKind, MAX_DOCUMENT_BYTES};

use super::{ObservedPolicy, observed::understood};

/// What can be said of a policy by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validated {
    /// Its backend, for the column; none where the policy is not understood so far.
    pub backend: Option<BackendKind>,
    /// Why it is not given to sidecars, which then go on with the last good one.
    pub fault: Option<String>,
}

/// Judges a policy.
pub fn validate(policy: &ObservedPolicy) -> Validated {
    match understood(policy) {
        Ok(known) => {
            let rendered = serde_json::to_string(&policy.document()).unwrap_or_default();
            let fault = (rendered.len() > MAX_DOCUMENT_BYTES).then(|| {
                format!("the policy is longer than the {MAX_DOCUMENT_BYTES} bytes that sidecars read: give fewer keys.allow")
            });
            Validated {
                backend: known.spec.backend.chosen().map(pawl_crds::Chosen::kind),
                fault,
            }
        }
        Err(fault) => Validated {
            backend: None,
            fault: Some(fault),
        },
    }
}
