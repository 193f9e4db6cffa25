//! Mode Advisory: the session that holds locks, and what it must not forget.
//!
//! Session locks are outside of transactions: a call that fails after it took or gave back a lock leaves lock and row
//! apart. While the answer of a call is missing its key is *in doubt*, and the next call of that key compares both at
//! the server before anything else. The order of the one connection makes that exact.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pawl_lock::{Instant, Key};
use tokio::sync::Notify;

/// A session at the server.
pub(super) struct Session {
    /// Its name in the tables.
    pub(super) id: String,
    /// Its number in this process.
    pub(super) number: u64,
    doubts: Mutex<Doubts>,
}

#[derive(Default)]
struct Doubts {
    calls: u64,
    /// The calls without a good answer, for each key. A call that is asked again, abandoned or settled clears it.
    missing: HashMap<Key, Vec<u64>>,
}

/// A call whose answer is awaited. What is dropped without [`Session::answered`] stays in doubt.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    call: u64,
    /// Whether earlier calls of the key are in doubt, which this one is to clear.
    pub(super) is_doubted: bool,
}

impl Session {
    pub(super) fn new(id: String, number: u64) -> Self {
        Self {
            id,
            number,
            doubts: Mutex::default(),
        }
    }

    /// A call of `key` is about to be sent.
    pub(super) fn send(&self, key: &Key) -> Pending {
        let mut doubts = lock(&self.doubts);
        doubts.calls += 1;
        let call = doubts.calls;
        let missing = doubts.missing.entry(key.clone()).or_default();
        let is_doubted = !missing.is_empty();
        missing.push(call);
        Pending { call, is_doubted }
    }

    /// It failed, and lock and row were compared after it.
    pub(super) fn settled(&self, key: &Key, pending: Pending) {
        let is_doubted = true;
        self.answered(
            key,
            Pending {
                is_doubted,
                ..pending
            },
        );
    }

    /// It was not sent, or was refused before it did anything.
    pub(super) fn did_nothing(&self, key: &Key, pending: Pending) {
        let is_doubted = false;
        self.answered(
            key,
            Pending {
                is_doubted,
                ..pending
            },
        );
    }

    /// It was answered, and lock and row are as the answer says.
    pub(super) fn answered(&self, key: &Key, pending: Pending) {
        let mut doubts = lock(&self.doubts);
        if let Some(missing) = doubts.missing.get_mut(key) {
            missing
                .retain(|call| *call > pending.call || !pending.is_doubted && *call < pending.call);
            if missing.is_empty() {
                doubts.missing.remove(key);
            }
        }
    }
}

/// When the session should look for holds that expired: a sidecar that is alive lets them go itself, before another
/// one ends its session for it.
#[derive(Default)]
pub(super) struct Reaper {
    due: Mutex<Option<Instant>>,
    sooner: Notify,
}

impl Reaper {
    /// Look at `at` at the latest.
    pub(super) fn plan(&self, at: Instant) {
        let mut due = lock(&self.due);
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.sooner.notify_one();
        }
    }

    /// When to look, if at all.
    pub(super) fn due(&self) -> Option<Instant> {
        *lock(&self.due)
    }

    /// It is being looked; what comes up is planned anew.
    pub(super) fn clear(&self) {
        *lock(&self.due) = None;
    }

    /// Until [`Self::due`] comes sooner than it was.
    pub(super) async fn sooner(&self) {
        self.sooner.notified().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::try_new("k").unwrap()
    }

    #[test]
    fn a_call_without_an_answer_leaves_doubt_until_the_next_is_answered() {
        let session = Session::new(String::new(), 1);
        let dropped = session.send(&key());
        assert!(!dropped.is_doubted);
        let again = session.send(&key());
        assert!(again.is_doubted);
        session.answered(&key(), again);
        assert!(!session.send(&key()).is_doubted);
    }

    #[test]
    fn an_answer_clears_no_later_call() {
        let session = Session::new(String::new(), 1);
        let _dropped = session.send(&key());
        let second = session.send(&key());
        let _third = session.send(&key());
        session.answered(&key(), second);
        assert!(session.send(&key()).is_doubted);
    }

    #[test]
    fn an_answer_that_compared_nothing_clears_itself_alone() {
        let session = Session::new(String::new(), 1);
        let first = session.send(&key());
        let second = session.send(&key());
        session.answered(&key(), first);
        assert!(session.send(&key()).is_doubted, "{}", second.call);
    }

    #[test]
    fn nothing_is_kept_of_answered_calls() {
        let session = Session::new(String::new(), 1);
        for _ in 0..3 {
            let pending = session.send(&key());
            assert!(!pending.is_doubted);
            session.answered(&key(), pending);
        }
        assert!(lock(&session.doubts).missing.is_empty());
    }

    #[test]
    fn the_reaper_keeps_the_earliest() {
        let reaper = Reaper::default();
        for at in [30, 10, 20] {
            reaper.plan(Instant::from_nanos(at));
        }
        assert_eq!(reaper.due(), Some(Instant::from_nanos(10)));
        reaper.clear();
        assert_eq!(reaper.due(), None);
    }
}
