//! The sidecar's own memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The memory of each sidecar: for development and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {}
