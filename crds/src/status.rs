//! `status`: what the operator saw. Small, and changed only on transitions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the operator saw.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = crate::schema::tidy)]
pub struct LockPolicyStatus {
    /// Generation of the spec that the rest of the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Which backend is set: redis, redlock, postgres, etcd, zookeeper, kubernetes or memory. The column BACKEND.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub backend: Option<String>,
    /// Accepted, `BackendReady`, Propagated and Ready, each with a reason and a message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The pods that are bound to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,
}

/// How many pods are bound to the policy, and how far they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCounts {
    /// Pods that name the policy. The column PODS.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub bound: u32,
    /// Bound pods whose sidecar runs the newest generation.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub current: u32,
    /// Bound pods whose sidecar can lock with the backend.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ready: u32,
}

/// `metav1.Condition` with the bounds that its Go type has and the Rust one lacks.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When the condition last changed its status."
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "What happened, for people; may be empty."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "Generation of the spec that the condition is about."
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, as one word for programs."
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "True, False or Unknown."
                },
                "type": {
                    "type": "string", "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "Accepted, BackendReady, Propagated or Ready."
                }
            }
        }
    })
}
