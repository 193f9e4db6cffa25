//! `LockPolicy`: the resource and its spec, and the rules between the parts of the spec.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::{Rule, Ruled};
use crate::validate::Violation;
use crate::{
    Acquire, Backend, BackendKind, Chosen, Class, Jitter, Keys, Lease, LockPolicyStatus, Order,
    Sidecar,
};

/// What a second holder of a lock would cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Purpose {
    /// Work that is done twice.
    #[default]
    Efficiency,
    /// Data.
    Correctness,
}

/// Which backend keeps the locks, how long leases live, who may lock what.
#[derive(CustomResource, Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pawl.dev",
    version = "v1alpha1",
    kind = "LockPolicy",
    plural = "lockpolicies",
    shortname = "lp",
    category = "pawl",
    namespaced,
    status = "LockPolicyStatus",
    derive = "PartialEq",
    doc = "A LockPolicy says which backend keeps the locks of the pods that name it, how long leases live, how callers queue and which keys they may lock.",
    validation = crate::policy::name_rule(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Accepted, backend reachable, and known to every bound sidecar",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Backend",
        type_ = "string",
        description = "Where the locks are kept",
        json_path = ".status.backend"
    ),
    printcolumn(
        name = "Order",
        type_ = "string",
        description = "Who gets a key next",
        json_path = ".spec.acquire.order"
    ),
    printcolumn(
        name = "TTL",
        type_ = "string",
        description = "Time to live of a lease when the caller names none",
        json_path = ".spec.lease.ttl"
    ),
    printcolumn(
        name = "Pods",
        type_ = "integer",
        description = "Pods that are bound to the policy",
        json_path = ".status.pods.bound"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        description = "Time since the policy was made",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = LockPolicySpec::cel_rules()), transform = crate::schema::tidy)]
pub struct LockPolicySpec {
    /// What a second holder of a lock would cost: Efficiency (work is done twice) or Correctness (data is damaged).
    /// Correctness needs a backend of class Safe: postgres, etcd, zookeeper or kubernetes. Default Efficiency.
    #[serde(default)]
    pub purpose: Purpose,
    /// Where the locks are kept. Exactly one field is set.
    pub backend: Backend,
    /// How long leases live and who keeps them alive.
    #[serde(default)]
    pub lease: Lease,
    /// How callers queue for a key.
    #[serde(default)]
    pub acquire: Acquire,
    /// Which keys may be locked, and how many at a time.
    #[serde(default)]
    pub keys: Keys,
    /// What the policy asks of the sidecar beside the application.
    #[serde(default)]
    pub sidecar: Sidecar,
}

/// Policies are named by DNS labels: the name becomes part of object, volume and directory names, of URLs and of the
/// annotation that lists policies.
pub(crate) const NAME: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
pub(crate) const NAME_MESSAGE: &str =
    "must be 1 to 63 lower-case letters, digits and -, starting and ending with a letter or digit";

/// Whether a policy can have this name: a DNS label of at most 63 bytes.
pub fn is_policy_name(name: &str) -> bool {
    regex_lite::Regex::new(NAME).is_ok_and(|pattern| pattern.is_match(name))
}

/// Without a path, since the schema of a resource leaves out its metadata; so the message names the field.
pub(crate) fn name_rule() -> kube::core::Rule {
    let matches = format!("self.metadata.name.matches({})", crate::rule::quote(NAME));
    kube::core::Rule::new(matches).message(format!("metadata.name {NAME_MESSAGE}").as_str())
}

impl LockPolicySpec {
    /// What is broken anywhere below.
    pub(crate) fn all_broken(&self, path: &str) -> Vec<Violation> {
        let Self {
            purpose: _,
            backend,
            lease,
            acquire,
            keys,
            sidecar,
        } = self;
        let mut broken = self.broken(path);
        broken.extend(backend.all_broken(&format!("{path}.backend")));
        broken.extend(lease.broken(&format!("{path}.lease")));
        broken.extend(acquire.broken(&format!("{path}.acquire")));
        broken.extend(acquire.retry.broken(&format!("{path}.acquire.retry")));
        broken.extend(keys.broken(&format!("{path}.keys")));
        if let Some(resources) = &sidecar.resources {
            broken.extend(resources.broken(&format!("{path}.sidecar.resources")));
        }
        broken
    }

    fn kind(&self) -> Option<BackendKind> {
        self.backend.chosen().map(Chosen::kind)
    }
}

impl Ruled for LockPolicySpec {
    fn rules() -> Vec<Rule<Self>> {
        let mut rules = purpose_rules();
        rules.extend(redlock_rules());
        rules.extend(ttl_floors());
        rules
    }
}

fn purpose_rules() -> Vec<Rule<LockPolicySpec>> {
    let right = |class: Class| {
        move |spec: &LockPolicySpec| {
            spec.purpose != Purpose::Correctness
                || spec.kind().is_none_or(|kind| kind.class() != class)
        }
    };
    vec![
        Rule::new(
            "purpose",
            "self.purpose != 'Correctness' || !(has(self.backend.redis) || has(self.backend.redlock))",
            "Correctness needs a backend of class Safe (postgres, etcd, zookeeper, kubernetes): redis and redlock are BestEffort; use Efficiency and fencing at the resource",
            right(Class::BestEffort),
        )
        .forbidden(),
        Rule::new(
            "purpose",
            "self.purpose != 'Correctness' || !has(self.backend.memory)",
            "Correctness needs a backend of class Safe (postgres, etcd, zookeeper, kubernetes): memory excludes only callers of the same sidecar",
            right(Class::Local),
        )
        .forbidden(),
    ]
}

fn redlock_rules() -> Vec<Rule<LockPolicySpec>> {
    let is_redlock = |spec: &LockPolicySpec| spec.backend.redlock.is_some();
    vec![
        Rule::new(
            "acquire.order",
            "!has(self.backend.redlock) || self.acquire.order != 'Fifo'",
            "redlock has no queue across its nodes: set acquire.order to Any",
            move |spec: &LockPolicySpec| !is_redlock(spec) || spec.acquire.order != Order::Fifo,
        )
        .forbidden(),
        Rule::new(
            "acquire.retry.jitter",
            "!has(self.backend.redlock) || self.acquire.retry.jitter == 'Full'",
            "redlock needs Full: callers that split the vote must not come back together",
            move |spec: &LockPolicySpec| {
                !is_redlock(spec) || spec.acquire.retry.jitter == Jitter::Full
            },
        )
        .forbidden(),
        // CEL has no product of durations.
        Rule::new(
            "backend.redlock.nodeTimeout",
            "!has(self.backend.redlock) || !has(self.backend.redlock.nodeTimeout) || duration(self.backend.redlock.nodeTimeout) + duration(self.backend.redlock.nodeTimeout) + duration(self.backend.redlock.nodeTimeout) + duration(self.backend.redlock.nodeTimeout) + duration(self.backend.redlock.nodeTimeout) <= duration(self.lease.ttl)",
            "must be at most a fifth of lease.ttl",
            |spec: &LockPolicySpec| {
                let timeout = spec
                    .backend
                    .redlock
                    .as_ref()
                    .and_then(|redlock| redlock.node_timeout);
                timeout.is_none_or(|timeout| timeout.as_millis() * 5 <= spec.lease.ttl.as_millis())
            },
        ),
    ]
}

/// The reasons are at [`Backend::min_ttl`].
fn ttl_floors() -> Vec<Rule<LockPolicySpec>> {
    fn floor(
        only: &'static str,
        least: &'static str,
        message: &'static str,
        applies: fn(&Backend) -> bool,
    ) -> Rule<LockPolicySpec> {
        Rule::new(
            "lease.ttl",
            format!("!({only}) || duration(self.lease.ttl) >= duration({least})"),
            message,
            move |spec: &LockPolicySpec| {
                !applies(&spec.backend) || spec.lease.ttl >= spec.backend.min_ttl()
            },
        )
    }
    vec![
        floor(
            "has(self.backend.postgres) && self.backend.postgres.mode == 'Advisory'",
            "'2s'",
            "must be at least 2s with postgres in mode Advisory: the server ends a dead connection by keepalives, which count in seconds",
            |backend| backend.postgres.is_some(),
        ),
        floor(
            "has(self.backend.etcd)",
            "'2s'",
            "must be at least 2s with etcd, whose leases do not end earlier",
            |backend| backend.etcd.is_some(),
        ),
        floor(
            "has(self.backend.kubernetes)",
            "'5s'",
            "must be at least 5s with kubernetes: each renewal is a write to the API server",
            |backend| backend.kubernetes.is_some(),
        ),
        floor(
            "has(self.backend.zookeeper)",
            "self.backend.zookeeper.sessionTimeout",
            "must be at least backend.zookeeper.sessionTimeout, at which the server frees a dead holder's keys",
            |backend| backend.zookeeper.is_some(),
        ),
    ]
}
