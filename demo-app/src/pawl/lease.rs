//! A lock that was granted.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::clock::{self, Instant};

/// A lock that was granted. Who knows its id can end it, so its `Debug` text does not tell it.
#[derive(Clone)]
pub struct Lease {
    pub(super) id: String,
    /// One fencing token per key, in the order of the keys.
    tokens: Vec<u64>,
    /// From when we held it, at the latest.
    pub since: Instant,
    /// From when we must not believe that we hold it, unless it is renewed.
    pub deadline: Instant,
    /// How long it was queued for.
    pub waited: Duration,
}

impl Lease {
    /// Reads the answer to an acquire that was sent at `asked`; `None` when it lacks anything.
    pub(super) fn granted(keys: &[&str], grant: &Value, asked: Instant) -> Option<Self> {
        let grants = grant["grants"]
            .as_array()
            .map_or(std::slice::from_ref(grant), Vec::as_slice);
        let token =
            |key: &&str| grants.iter().find(|g| g["key"] == **key)?["fencingToken"].as_u64();
        let tokens = keys.iter().map(token).collect::<Option<Vec<_>>>()?;
        let time = |name: &str| grant[name].as_u64().map(Duration::from_millis);
        let waited = time("waitedMs").unwrap_or_default();
        Some(Self {
            id: grant["leaseId"].as_str()?.to_owned(),
            tokens: (!tokens.is_empty()).then_some(tokens)?,
            since: clock::now(),
            // The grant was made `waited` after the sidecar had our request, which was after `asked`.
            deadline: asked + waited + time("expiresInMs")?,
            waited,
        })
    }

    /// Whether it is still ours by our own clock. Ask right before the write, and fence the write too:
    /// a process may be paused between the two.
    pub fn is_held(&self) -> bool {
        clock::now() < self.deadline
    }

    /// The fencing token of the first (or only) key; goes along with every write.
    pub fn token(&self) -> u64 {
        self.tokens[0]
    }

    /// The fencing tokens, in the order of the keys.
    pub fn tokens(&self) -> &[u64] {
        &self.tokens
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn several_keys_have_a_token_each_in_the_order_they_were_asked_for() {
        let both = json!([{"key": "a", "fencingToken": 1}, {"key": "b", "fencingToken": 2}]);
        let grant = json!({"leaseId": "0123456789abcdef", "grants": both, "expiresInMs": 5});
        let lease = Lease::granted(&["b", "a"], &grant, clock::now()).unwrap();
        assert_eq!(lease.tokens(), [2, 1]);
        assert!(!format!("{lease:?}").contains("abcdef"));
        assert!(Lease::granted(&["a", "c"], &grant, clock::now()).is_none());
        assert!(Lease::granted(&[], &grant, clock::now()).is_none());
    }
}
