//! Leases of the Kubernetes API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Leases (coordination.k8s.io/v1) in the policy's namespace, through the pod's own service account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {}
