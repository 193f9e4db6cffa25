//! One node: its connection, and why its answers may not count.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pawl_lock::{
    BackendError, HoldId,
    backend::{Category, Finding, Outcome},
    quorum,
};
use tokio::time::Instant;

use super::RedlockConfig;
use crate::backend::redis::{
    TOMBSTONE,
    connection::{Connection, Link},
    probe,
};

/// How many attempts may be in doubt at one node before none counts there.
const MOST_DOUBTS: usize = 10_000;

/// One node.
pub(super) struct Node {
    link: Link,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Attempts that do not count here, and until when: a grant of theirs was or may be taken back, and nobody knows
    /// yet whether that has happened. It might happen to a later grant of the same attempt.
    doubts: HashMap<HoldId, Instant>,
    /// Until when a call that was given up may still take effect.
    late_until: Option<Instant>,
}

impl Node {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            state: Mutex::default(),
        }
    }

    /// As messages name it.
    pub(super) fn name(&self) -> String {
        self.link.endpoint().name()
    }

    pub(super) const fn link(&self) -> &Link {
        &self.link
    }

    pub(super) async fn connection(&self) -> Result<Arc<Connection>, BackendError> {
        self.link.connection().await
    }

    /// Why its grants do not count, if they do not.
    pub(super) fn unfit(&self, connection: &Connection, config: &RedlockConfig) -> Option<Finding> {
        if !quorum::counts(connection.uptime(), config.max_ttl) {
            return Some(Finding {
                reason: "NodeRestarted",
                is_fatal: false,
                message: format!(
                    "the Redis server {} has been running for less than maxTtl and does not count yet: it may have \
                     forgotten who holds what",
                    self.name()
                ),
            });
        }
        probe::eviction(&connection.server(), config.allow_eviction)
            .filter(|finding| finding.is_fatal)
    }

    /// The same as a call's error.
    pub(super) fn refuse(
        &self,
        connection: &Connection,
        config: &RedlockConfig,
        hold: HoldId,
    ) -> Option<BackendError> {
        if let Some(finding) = self.unfit(connection, config) {
            let category = match finding.reason {
                "NodeRestarted" => Category::Unavailable,
                _ => Category::Unsafe,
            };
            return Some(BackendError::new(
                category,
                Outcome::NotApplied,
                finding.message,
            ));
        }
        self.is_doubted(hold).then(|| {
            BackendError::new(
                Category::Unavailable,
                Outcome::NotApplied,
                format!(
                    "an earlier call is still under way to the Redis server {}",
                    self.name()
                ),
            )
        })
    }

    /// From now on the attempt does not count here.
    pub(super) fn doubt(&self, hold: HoldId) {
        let now = Instant::now();
        let mut state = self.state();
        if state.doubts.len() >= MOST_DOUBTS {
            state.doubts.retain(|_, until| *until > now);
        }
        state.doubts.insert(hold, now + TOMBSTONE);
    }

    /// All that was sent for the attempt has happened.
    pub(super) fn trust(&self, hold: HoldId) {
        self.state().doubts.remove(&hold);
    }

    pub(super) fn is_doubted(&self, hold: HoldId) -> bool {
        let state = self.state();
        if state.doubts.is_empty() {
            return false;
        }
        state.doubts.len() > MOST_DOUBTS
            || state
                .doubts
                .get(&hold)
                .is_some_and(|until| *until > Instant::now())
    }

    /// A call was given up unanswered: for this long and the life of a tombstone it may still take effect.
    pub(super) fn may_follow(&self, ttl: Duration) {
        self.state().late_until = Some(Instant::now() + ttl + TOMBSTONE);
    }

    /// Whether a call that was given up may still take effect.
    pub(super) fn may_be_late(&self) -> bool {
        self.state()
            .late_until
            .is_some_and(|until| until > Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_doubt_lasts_until_it_is_settled() {
        let config = RedlockConfig::new(["redis://a"]);
        let endpoint = config.node("redis://a").endpoint().unwrap();
        let node = Node::new(Link::new(endpoint, None));
        let (one, other) = (HoldId::from_bits(1), HoldId::from_bits(2));
        node.doubt(one);
        assert!(node.is_doubted(one) && !node.is_doubted(other));
        node.trust(one);
        assert!(!node.is_doubted(one));
        assert!(!node.may_be_late());
        node.may_follow(Duration::ZERO);
        assert!(node.may_be_late());
    }

    #[tokio::test]
    async fn too_many_doubts_are_doubts_about_all() {
        let config = RedlockConfig::new(["redis://a"]);
        let endpoint = config.node("redis://a").endpoint().unwrap();
        let node = Node::new(Link::new(endpoint, None));
        for bits in 0..=MOST_DOUBTS as u128 {
            node.doubt(HoldId::from_bits(bits));
        }
        assert!(node.is_doubted(HoldId::from_bits(u128::MAX)));
    }
}
