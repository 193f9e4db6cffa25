//! `spec.lease`: how long a lease lives and who keeps it alive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiDuration;
use crate::rule::{Rule, Ruled};

const MIN_TTL: ApiDuration = ApiDuration::from_millis(100);
const HOUR: ApiDuration = ApiDuration::from_secs(3_600);
const DAY: ApiDuration = ApiDuration::from_secs(86_400);

/// Who renews a lease that does not say so itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Renew {
    /// The sidecar, until release, `maxHold` or `idle`.
    #[default]
    Auto,
    /// The application, by `POST /v1/leases/{leaseId}/renew`.
    Manual,
}

/// How long leases live and who keeps them alive. All times are durations such as `250ms`, `10s` or `1h30m`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Lease::cel_rules()))]
pub struct Lease {
    /// Time to live of a lease when the caller names none: after a crash of the holder the key is free again this
    /// long after its last renewal. 100ms to 1h, at most maxTtl; some backends cannot free a key that early and
    /// need more: etcd and postgres in mode Advisory 2s, kubernetes 5s, zookeeper its sessionTimeout. Default 10s.
    pub ttl: ApiDuration,
    /// Longest time to live that a caller may ask for. ttl to 1h. Default 5m.
    pub max_ttl: ApiDuration,
    /// Who renews a lease when the caller does not say: Auto (the sidecar, every third of the ttl, until release,
    /// maxHold or idle) or Manual (the application). Default Auto.
    pub renew: Renew,
    /// Cap on the whole life of a lease, renewals included; then it ends even while it is in use. ttl to 24h. Default
    /// 10m.
    pub max_hold: ApiDuration,
    /// Quiet time of a key after its holder was lost (not after a release), so that writes of the lost holder that are
    /// still under way come to rest. 0s to 10m. Default 0s: none.
    pub lock_delay: ApiDuration,
    /// How long a sidecar keeps a key at the backend after its last lease ended, while no other sidecar wants it; a
    /// next lease of the same key then needs no round trip. 0s to 1m. Default 1s.
    pub retain: ApiDuration,
    /// A lease that the sidecar renews, and that no event stream holds, stops being renewed when no call named it for
    /// this long: the application has likely died or hangs. 1s to 24h, at most maxHold. Absent: only maxHold ends
    /// such a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<ApiDuration>,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            ttl: ApiDuration::from_secs(10),
            max_ttl: ApiDuration::from_secs(300),
            renew: Renew::Auto,
            max_hold: ApiDuration::from_secs(600),
            lock_delay: ApiDuration::ZERO,
            retain: ApiDuration::from_secs(1),
            idle: None,
        }
    }
}

impl Ruled for Lease {
    fn rules() -> Vec<Rule<Self>> {
        vec![
            Rule::within("ttl", MIN_TTL..=HOUR, |lease: &Self| Some(lease.ttl)),
            Rule::within("maxTtl", MIN_TTL..=HOUR, |lease: &Self| Some(lease.max_ttl)),
            Rule::within("maxHold", MIN_TTL..=DAY, |lease: &Self| {
                Some(lease.max_hold)
            }),
            Rule::within(
                "lockDelay",
                ApiDuration::ZERO..=ApiDuration::from_secs(600),
                |lease: &Self| Some(lease.lock_delay),
            ),
            Rule::within(
                "retain",
                ApiDuration::ZERO..=ApiDuration::from_secs(60),
                |lease: &Self| Some(lease.retain),
            ),
            Rule::within("idle", ApiDuration::from_secs(1)..=DAY, |lease: &Self| {
                lease.idle
            }),
            Rule::new(
                "ttl",
                "duration(self.ttl) <= duration(self.maxTtl)",
                "must not be longer than lease.maxTtl",
                |lease: &Self| lease.ttl <= lease.max_ttl,
            ),
            Rule::new(
                "maxHold",
                "duration(self.maxHold) >= duration(self.ttl)",
                "must not be shorter than lease.ttl",
                |lease: &Self| lease.max_hold >= lease.ttl,
            ),
            Rule::new(
                "idle",
                "!has(self.idle) || duration(self.idle) <= duration(self.maxHold)",
                "must not be longer than lease.maxHold, which ends the lease first",
                |lease: &Self| lease.idle.is_none_or(|idle| idle <= lease.max_hold),
            ),
        ]
    }
}
