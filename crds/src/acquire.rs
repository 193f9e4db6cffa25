//! `spec.acquire`: how callers queue and how the sidecar retries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiDuration;
use crate::rule::{Rule, Ruled};

/// Who gets a key next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// First come, first served, across all pods.
    #[default]
    Fifo,
    /// Fastest: waiters of the holding pod may pass others, up to 16 times in a row.
    Any,
}

/// How the pauses between retries are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Jitter {
    /// Each pause is drawn evenly between nothing and its upper bound.
    #[default]
    Full,
    /// Each pause is its upper bound.
    None,
}

/// How callers queue for a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Acquire::cel_rules()))]
pub struct Acquire {
    /// How long an acquire queues for a held key when the caller does not say. 0s to maxWait. Default 0s: it is
    /// answered at once.
    pub wait: ApiDuration,
    /// Longest time that a caller may ask to queue. 0s to 1h. Default 1m.
    pub max_wait: ApiDuration,
    /// Who gets the key next: Fifo (first come, first served, across all pods) or Any (fastest: waiters of the holding
    /// pod may pass others, up to 16 times in a row). redlock has no queue across its nodes and needs Any. Default
    /// Fifo.
    pub order: Order,
    /// Pauses between attempts of a waiter that the backend cannot wake, and after errors of the backend.
    pub retry: Retry,
}

impl Default for Acquire {
    fn default() -> Self {
        Self {
            wait: ApiDuration::ZERO,
            max_wait: ApiDuration::from_secs(60),
            order: Order::Fifo,
            retry: Retry::default(),
        }
    }
}

impl Ruled for Acquire {
    fn rules() -> Vec<Rule<Self>> {
        const HOUR: ApiDuration = ApiDuration::from_secs(3_600);
        vec![
            Rule::within("wait", ApiDuration::ZERO..=HOUR, |acquire: &Self| {
                Some(acquire.wait)
            }),
            Rule::within("maxWait", ApiDuration::ZERO..=HOUR, |acquire: &Self| {
                Some(acquire.max_wait)
            }),
            Rule::new(
                "wait",
                "duration(self.wait) <= duration(self.maxWait)",
                "must not be longer than acquire.maxWait",
                |acquire: &Self| acquire.wait <= acquire.max_wait,
            ),
        ]
    }
}

/// Exponential backoff: the upper bound of pause n is `initial * factor^n`, at most `max`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Retry::cel_rules()))]
pub struct Retry {
    /// Upper bound of the first pause. 1ms to 1m, at most max. Default 50ms.
    pub initial: ApiDuration,
    /// Upper bound of every pause. 1ms to 1m. Default 2s.
    pub max: ApiDuration,
    /// By what the upper bound grows each time. 1 to 10. Default 2.
    #[schemars(range(min = 1, max = 10))]
    pub factor: u32,
    /// How a pause is spread below its upper bound: Full (drawn evenly from nothing to the bound, so that callers that
    /// failed together do not come back together) or None (exactly the bound). redlock needs Full. Default Full.
    pub jitter: Jitter,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: ApiDuration::from_millis(50),
            max: ApiDuration::from_secs(2),
            factor: 2,
            jitter: Jitter::Full,
        }
    }
}

impl Ruled for Retry {
    fn rules() -> Vec<Rule<Self>> {
        const LEAST: ApiDuration = ApiDuration::from_millis(1);
        const MOST: ApiDuration = ApiDuration::from_secs(60);
        vec![
            Rule::within("initial", LEAST..=MOST, |retry: &Self| Some(retry.initial)),
            Rule::within("max", LEAST..=MOST, |retry: &Self| Some(retry.max)),
            Rule::new(
                "initial",
                "duration(self.initial) <= duration(self.max)",
                "must not be longer than retry.max",
                |retry: &Self| retry.initial <= retry.max,
            ),
        ]
    }
}
