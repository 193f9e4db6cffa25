//! What is asked of a lock.

use std::time::Duration;

use serde_json::{Value, json};

use crate::units::format_duration;

/// What is asked of a lock; what is `None` is as the policy says.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// How long the lease lives without a renewal.
    pub ttl: Option<Duration>,
    /// How long to queue for it.
    pub wait: Option<Duration>,
    /// The name that others are shown.
    pub owner: Option<String>,
    /// Whether the sidecar renews it (`true`) or [`super::Pawl::renew`] does (`false`).
    pub auto_renew: Option<bool>,
}

impl Terms {
    /// The body of an acquire. Fields that are not known are refused by the sidecar, so none is sent without need.
    pub(super) fn body(&self, keys: Option<&[&str]>) -> Value {
        let renew = |auto: bool| if auto { "auto" } else { "manual" };
        let mut body = json!({});
        for (name, value) in [
            ("ttl", self.ttl.map(|d| format_duration(d).into())),
            ("wait", self.wait.map(|d| format_duration(d).into())),
            ("owner", self.owner.clone().map(Value::from)),
            ("renew", self.auto_renew.map(|auto| renew(auto).into())),
            ("keys", keys.map(Value::from)),
        ] {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}
