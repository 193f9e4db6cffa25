//! `spec.backend`: where the locks are kept. Exactly one is set.

pub(crate) mod etcd;
pub(crate) mod kubernetes;
pub(crate) mod memory;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod redlock;
pub(crate) mod zookeeper;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ApiDuration;
use crate::rule::{Rule, Ruled};
use crate::validate::Violation;
use etcd::Etcd;
use kubernetes::Kubernetes;
use memory::Memory;
use postgres::{Postgres, PostgresMode};
use redis::Redis;
use redlock::Redlock;
use zookeeper::Zookeeper;

/// Where the locks are kept. Exactly one field is set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Backend::cel_rules()))]
pub struct Backend {
    /// One Redis or Valkey: standalone, behind Sentinel, or a Cluster. Class `BestEffort`: a failover can forget a lock;
    /// safe with fencing at the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// An odd number of independent Redis servers that decide by majority. Class `BestEffort`: safe with fencing at the
    /// resource. Needs acquire.order Any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redlock: Option<Redlock>,
    /// `PostgreSQL`. Class Safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// etcd 3.4 or newer. Class Safe. Needs lease.ttl of 2s or more, since its leases count in seconds and live for 2s
    /// at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    /// `ZooKeeper` 3.5 or newer. Class Safe. Needs lease.ttl of sessionTimeout or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zookeeper: Option<Zookeeper>,
    /// Leases (coordination.k8s.io/v1) in the policy's namespace; no other server is needed. Class Safe, for coarse locks:
    /// needs lease.ttl of 5s or more, so that renewals do not load the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// The memory of each sidecar. Class Local: it excludes only callers of the same sidecar; for development and tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// The backend that is set.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Chosen<'a> {
    /// One Redis.
    Redis(&'a Redis),
    /// Several independent ones.
    Redlock(&'a Redlock),
    /// `PostgreSQL`.
    Postgres(&'a Postgres),
    /// etcd.
    Etcd(&'a Etcd),
    /// `ZooKeeper`.
    Zookeeper(&'a Zookeeper),
    /// Kubernetes Leases.
    Kubernetes(&'a Kubernetes),
    /// The sidecar's memory.
    Memory(&'a Memory),
}

/// Which backend it is, without its fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BackendKind {
    /// One Redis.
    Redis,
    /// Several independent ones.
    Redlock,
    /// `PostgreSQL`.
    Postgres,
    /// etcd.
    Etcd,
    /// `ZooKeeper`.
    Zookeeper,
    /// Kubernetes Leases.
    Kubernetes,
    /// The sidecar's memory.
    Memory,
}

/// What a backend guarantees by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// At most one believer, whatever fails.
    Safe,
    /// At most one believer unless a server forgets or its clock jumps; safe with fencing at the resource.
    BestEffort,
    /// One sidecar alone.
    Local,
}

impl BackendKind {
    /// The field's name in a policy; also the value of the metric label `backend`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Redlock => "redlock",
            Self::Postgres => "postgres",
            Self::Etcd => "etcd",
            Self::Zookeeper => "zookeeper",
            Self::Kubernetes => "kubernetes",
            Self::Memory => "memory",
        }
    }

    /// What it guarantees.
    pub const fn class(self) -> Class {
        match self {
            Self::Redis | Self::Redlock => Class::BestEffort,
            Self::Postgres | Self::Etcd | Self::Zookeeper | Self::Kubernetes => Class::Safe,
            Self::Memory => Class::Local,
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Chosen<'_> {
    /// Without the fields.
    pub const fn kind(self) -> BackendKind {
        match self {
            Self::Redis(_) => BackendKind::Redis,
            Self::Redlock(_) => BackendKind::Redlock,
            Self::Postgres(_) => BackendKind::Postgres,
            Self::Etcd(_) => BackendKind::Etcd,
            Self::Zookeeper(_) => BackendKind::Zookeeper,
            Self::Kubernetes(_) => BackendKind::Kubernetes,
            Self::Memory(_) => BackendKind::Memory,
        }
    }
}

impl Backend {
    /// The backend that is set. Always `Some` in a policy that [`crate::validate`] or the API server let through;
    /// `None` when none or several are set.
    pub fn chosen(&self) -> Option<Chosen<'_>> {
        let mut set = self.set();
        let first = set.next();
        if set.next().is_some() { None } else { first }
    }

    /// All that are set; destructured so that a new one is not forgotten.
    fn set(&self) -> impl Iterator<Item = Chosen<'_>> {
        let Self {
            redis,
            redlock,
            postgres,
            etcd,
            zookeeper,
            kubernetes,
            memory,
        } = self;
        [
            redis.as_ref().map(Chosen::Redis),
            redlock.as_ref().map(Chosen::Redlock),
            postgres.as_ref().map(Chosen::Postgres),
            etcd.as_ref().map(Chosen::Etcd),
            zookeeper.as_ref().map(Chosen::Zookeeper),
            kubernetes.as_ref().map(Chosen::Kubernetes),
            memory.as_ref().map(Chosen::Memory),
        ]
        .into_iter()
        .flatten()
    }

    /// Shortest `ttl` at which the backend frees a dead holder's key in time; a lease must not ask for less.
    ///
    /// Postgres in mode Advisory: the server ends a silent connection by TCP keepalive, which counts in seconds and
    /// takes one idle second and one probe. etcd: leases count in seconds, and the server raises them to one and a half
    /// election timeouts (1 s by default). Kubernetes: three renewals a ttl, each a write to the API server. `ZooKeeper`:
    /// the server frees the key at the end of the session, so a shorter ttl would be a promise it does not keep.
    pub fn min_ttl(&self) -> ApiDuration {
        match self.chosen() {
            Some(
                Chosen::Postgres(Postgres {
                    mode: PostgresMode::Advisory,
                    ..
                })
                | Chosen::Etcd(_),
            ) => ApiDuration::from_secs(2),
            Some(Chosen::Kubernetes(_)) => ApiDuration::from_secs(5),
            Some(Chosen::Zookeeper(zookeeper)) => zookeeper.session_timeout,
            _ => ApiDuration::from_millis(100),
        }
    }

    /// What is broken inside, each backend by its own rules.
    pub(crate) fn all_broken(&self, path: &str) -> Vec<Violation> {
        let mut broken = self.broken(path);
        for chosen in self.set() {
            let path = format!("{path}.{}", chosen.kind());
            match chosen {
                Chosen::Redis(redis) => {
                    broken.extend(redis.broken(&path));
                    if let Some(sentinel) = &redis.sentinel {
                        broken.extend(sentinel.broken(&format!("{path}.sentinel")));
                    }
                    if let Some(cluster) = &redis.cluster {
                        broken.extend(cluster.broken(&format!("{path}.cluster")));
                    }
                }
                Chosen::Redlock(redlock) => broken.extend(redlock.broken(&path)),
                Chosen::Postgres(postgres) => broken.extend(postgres.broken(&path)),
                Chosen::Etcd(etcd) => broken.extend(etcd.broken(&path)),
                Chosen::Zookeeper(zookeeper) => broken.extend(zookeeper.broken(&path)),
                Chosen::Kubernetes(Kubernetes {}) | Chosen::Memory(Memory {}) => {}
            }
        }
        broken
    }
}

impl Ruled for Backend {
    fn rules() -> Vec<Rule<Self>> {
        let kinds = [
            "redis",
            "redlock",
            "postgres",
            "etcd",
            "zookeeper",
            "kubernetes",
            "memory",
        ];
        let count = kinds
            .map(|kind| format!("(has(self.{kind}) ? 1 : 0)"))
            .join(" + ");
        vec![Rule::whole(
            format!("{count} == 1"),
            "must have exactly one of redis, redlock, postgres, etcd, zookeeper, kubernetes, memory",
            |backend: &Self| backend.chosen().is_some(),
        )]
    }
}
