//! What a server says about itself, and what of that is unsafe.

use std::time::Duration;

use pawl_lock::backend::Finding;

use super::RedisConfig;

/// The server's clock must be after this (2020-01-01) to be believed.
const PLAUSIBLE_MILLIS: u64 = 1_577_836_800_000;

/// What `INFO` and `COMMAND INFO` say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerInfo {
    /// Major and minor version that it speaks: Valkey says 7.2 here and its own elsewhere.
    pub version: (u32, u32),
    /// What it may throw away when its memory is full; nothing if it does not say.
    pub eviction: Option<String>,
    /// Whether it is a replica, which takes no writes.
    pub is_replica: bool,
    /// How many replicas are connected to it.
    pub replicas: u32,
    /// How long it has been running.
    pub uptime: Duration,
    /// Whether it is still reading its data.
    pub is_loading: bool,
    /// Which compare-and-delete it has.
    pub compare: Compare,
}

/// The newer commands that replace a script for a compare-and-delete of a plain string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compare {
    /// None: a script is needed.
    #[default]
    Script,
    /// `DELEX key IFEQ value` (Redis 8.4 and newer).
    Delex,
    /// `DELIFEQ key value` (Valkey 9.0 and newer).
    Delifeq,
}

impl ServerInfo {
    /// Reads the answer of `INFO`. Lines that are not known are passed over.
    pub fn parse(info: &str) -> Self {
        let mut server = Self::default();
        for line in info.lines() {
            let Some((name, value)) = line.trim_end().split_once(':') else {
                continue;
            };
            match name {
                "redis_version" => server.version = version(value),
                "maxmemory_policy" => server.eviction = Some(value.to_owned()),
                "role" => server.is_replica = value == "slave",
                "connected_slaves" => server.replicas = value.parse().unwrap_or(0),
                "uptime_in_seconds" => {
                    server.uptime = Duration::from_secs(value.parse().unwrap_or(0));
                }
                "loading" => server.is_loading = value != "0",
                _ => {}
            }
        }
        server
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// What is unsafe, or not as it should be, as far as the server's own words go.
pub(super) fn findings(server: &ServerInfo, config: &RedisConfig) -> Vec<Finding> {
    eviction(server, config.allow_eviction)
        .into_iter()
        .chain(replicas(server, config))
        .collect()
}

/// A server that may evict a lock when its memory is full.
pub(in crate::backend) fn eviction(server: &ServerInfo, is_allowed: bool) -> Option<Finding> {
    let message = match server.eviction.as_deref() {
        Some("noeviction") => return None,
        Some(policy) => format!(
            "the Redis server may throw locks away when its memory is full (maxmemory-policy {policy}): \
             set it to noeviction, or let the policy allow it"
        ),
        None => "the Redis server does not show its maxmemory-policy: let the user run INFO, or let the policy \
                 allow eviction"
            .to_owned(),
    };
    Some(Finding {
        reason: "EvictionUnsafe",
        is_fatal: !is_allowed,
        message,
    })
}

fn replicas(server: &ServerInfo, config: &RedisConfig) -> Option<Finding> {
    let (found, wanted) = (server.replicas, config.wait_replicas);
    let message = if wanted == 0 && found > 0 {
        format!(
            "the Redis server has {found} replicas and grants do not wait for them: a failover may forget a lock; \
             set waitReplicas to 1 or more"
        )
    } else if found < wanted {
        format!(
            "the Redis server has {found} replicas and waitReplicas is {wanted}: no lock is given"
        )
    } else {
        return None;
    };
    Some(Finding {
        reason: "ReplicasUnconfirmed",
        is_fatal: false,
        message,
    })
}

/// A clock that cannot be right.
pub(in crate::backend) fn clock_finding(clock_millis: u64) -> Option<Finding> {
    (clock_millis < PLAUSIBLE_MILLIS).then(|| Finding {
        reason: "ClockImplausible",
        is_fatal: false,
        message:
            "the clock of the Redis server is before the year 2020: when it is set, holds end early"
                .to_owned(),
    })
}

/// Hints that the ACL keeps from being sent or heard.
pub(in crate::backend) fn hints_forbidden() -> Finding {
    Finding {
        reason: "HintsForbidden",
        is_fatal: false,
        message: "the Redis user may not use the channels pawl:*, so waiters depend on the slow poll: add &pawl:*, \
                  +publish and +subscribe"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:77\r\n\r\n# Memory\r\n\
                        maxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                        # Persistence\r\nloading:0\r\n";

    #[test]
    fn info_is_read() {
        let server = ServerInfo {
            version: (7, 0),
            eviction: Some("noeviction".to_owned()),
            is_replica: false,
            replicas: 2,
            uptime: Duration::from_secs(77),
            is_loading: false,
            compare: Compare::Script,
        };
        assert_eq!(ServerInfo::parse(INFO), server);
        assert_eq!(
            ServerInfo::parse("role:slave\nloading:1\nredis_version:x").version,
            (0, 0)
        );
        assert!(ServerInfo::parse("role:slave").is_replica);
    }

    #[test]
    fn findings_follow_the_configuration() {
        let found = |info: &str, change: fn(&mut RedisConfig)| {
            let mut config = RedisConfig::new("redis://redis");
            change(&mut config);
            findings(&ServerInfo::parse(info), &config)
                .into_iter()
                .map(|finding| (finding.reason, finding.is_fatal))
                .collect::<Vec<_>>()
        };
        let alone = INFO.replace("connected_slaves:2", "connected_slaves:0");
        let evicting = alone.replace("noeviction", "allkeys-lru");
        assert_eq!(found(&alone, |_| {}), []);
        assert_eq!(found(&evicting, |_| {}), [("EvictionUnsafe", true)]);
        assert_eq!(
            found(&evicting, |config| config.allow_eviction = true),
            [("EvictionUnsafe", false)]
        );
        assert_eq!(found("role:master", |_| {}), [("EvictionUnsafe", true)]);
        assert_eq!(found(INFO, |_| {}), [("ReplicasUnconfirmed", false)]);
        assert_eq!(found(INFO, |config| config.wait_replicas = 2), []);
        assert_eq!(
            found(INFO, |config| config.wait_replicas = 3),
            [("ReplicasUnconfirmed", false)]
        );
    }

    #[test]
    fn an_old_clock_is_found() {
        assert!(clock_finding(0).is_some());
        assert!(clock_finding(PLAUSIBLE_MILLIS).is_none());
    }
}
