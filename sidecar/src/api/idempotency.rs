//! `Idempotency-Key`: the same key and request again has the same outcome.
//!
//! * While the first is under way, a second joins it. It goes on as long as any of its callers is there.
//! * What succeeded is remembered: [`MOST`] outcomes, [`AGE`] long. A grant is replayed only while its lease lives, with
//!   the time that is left then; after that the answer is how the lease ended (law 3).
//! * What failed is not remembered: nothing was applied (or it is being compensated), so that asking again may succeed.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::{Rc, Weak},
    time::Duration,
};

use futures::future::{FutureExt, LocalBoxFuture, Shared, WeakShared};
use pawl_kit::clock::Clock;
use pawl_lock::Instant;
use sha2::{Digest, Sha256};

use super::{delivery::Delivery, error::ApiError, http1::guard::Head};
use crate::engine::{Granted, LeaseId};

/// The most outcomes that are remembered, and requests that are under way with a key.
const MOST: usize = 10_000;
/// How long an outcome is remembered.
const AGE: Duration = Duration::from_mins(10);
/// The longest key.
const MAX_KEY: usize = 128;

/// How a request with a key ended, for each of its callers.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Granted(Rc<Granted>, Rc<Delivery>),
    Renewed(LeaseId),
    Released,
    Failed(Rc<ApiError>),
}

/// The work of a request with a key, shared by its callers.
pub(super) type Work = Shared<LocalBoxFuture<'static, Done>>;

/// What a request with a key comes to.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is under way: begun now, or joined.
    Work(Work),
    /// It was done before.
    Before(Before),
}

/// An outcome that is remembered.
#[derive(Clone, Debug)]
pub(super) enum Before {
    /// With the delivery, if it is still on its way to another caller.
    Granted(Rc<Granted>, Weak<Delivery>),
    Renewed(LeaseId),
    Released,
}

/// All keys that are known.
#[derive(Debug)]
pub(super) struct Replays {
    clock: Clock,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Rc<str>, Entry>,
    /// Oldest first. An entry that was replaced meanwhile has another number.
    order: VecDeque<(Instant, u64, Rc<str>)>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    fingerprint: Fingerprint,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    UnderWay(WeakShared<LocalBoxFuture<'static, Done>>),
    Done(Before),
}

/// What a request is, but for its key.
pub(super) type Fingerprint = [u8; 32];

/// One entry, as its request knows it.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    replays: Weak<Replays>,
    key: Rc<str>,
    number: u64,
}

/// The key of a request, if it has one.
///
/// # Errors
/// [`ApiError::Parameter`] if it is not 1 to 128 bytes of printable ASCII.
pub(super) fn key<'a>(head: &Head<'a>) -> Result<Option<&'a str>, ApiError> {
    let Some(key) = head.fields.idempotency_key else {
        return Ok(None);
    };
    let is_printable = key.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match std::str::from_utf8(key) {
        Ok(key) if is_printable && (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key)),
        _ => Err(ApiError::Parameter(
            "the Idempotency-Key is not 1 to 128 printable ASCII characters",
        )),
    }
}

/// What a request is.
pub(super) fn fingerprint(head: &Head<'_>, body: &[u8]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in [
        head.method,
        "\n",
        head.path,
        "\n",
        head.query.unwrap_or_default(),
        "\n",
    ] {
        hash.update(part);
    }
    hash.update(body);
    hash.finalize().into()
}

impl Replays {
    /// Knows no key.
    pub(super) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            clock,
            state: RefCell::default(),
        })
    }

    /// Begins a request, joins it, or finds what it came to.
    ///
    /// # Errors
    /// [`ApiError::Mismatch`] if the key belongs to another request.
    pub(super) fn begin(
        self: &Rc<Self>,
        key: &str,
        fingerprint: Fingerprint,
        start: impl FnOnce(Ticket) -> LocalBoxFuture<'static, Done>,
    ) -> Result<Begun, ApiError> {
        let now = self.clock.now();
        let mut state = self.state.borrow_mut();
        state.expire(now);
        if let Some(entry) = state.entries.get(key) {
            let begun = match &entry.phase {
                Phase::UnderWay(work) => work.upgrade().map(Begun::Work),
                Phase::Done(before) => Some(Begun::Before(before.clone())),
            };
            match begun {
                Some(_) if entry.fingerprint != fingerprint => return Err(ApiError::Mismatch),
                Some(begun) => return Ok(begun),
                // All of its callers left: it never was.
                None => {}
            }
        }
        let key: Rc<str> = key.into();
        let number = state.next;
        state.next += 1;
        let ticket = Ticket {
            replays: Rc::downgrade(self),
            key: Rc::clone(&key),
            number,
        };
        let work = start(ticket.clone());
        let work = async move {
            let done = work.await;
            ticket.finish(&done);
            done
        };
        let work = work.boxed_local().shared();
        if let Some(weak) = work.downgrade() {
            let phase = Phase::UnderWay(weak);
            state.order.push_back((now, number, Rc::clone(&key)));
            state.entries.insert(
                key,
                Entry {
                    number,
                    fingerprint,
                    phase,
                },
            );
        }
        Ok(Begun::Work(work))
    }
}

impl State {
    /// Forgets what is too old, and the oldest if there are too many.
    fn expire(&mut self, now: Instant) {
        while let Some((at, number, key)) = self.order.front() {
            if self.order.len() < MOST && now.saturating_since(*at) <= AGE {
                break;
            }
            if self
                .entries
                .get(key)
                .is_some_and(|entry| entry.number == *number)
            {
                self.entries.remove(key);
            }
            self.order.pop_front();
        }
    }
}

impl Ticket {
    /// Remembers what succeeded, forgets what failed.
    fn finish(&self, done: &Done) {
        let before = match done {
            Done::Granted(granted, delivery) => {
                Before::Granted(Rc::clone(granted), Rc::downgrade(delivery))
            }
            Done::Renewed(lease) => Before::Renewed(*lease),
            Done::Released => Before::Released,
            Done::Failed(_) => return self.forget(),
        };
        let Some(replays) = self.replays.upgrade() else {
            return;
        };
        let mut state = replays.state.borrow_mut();
        if let Some(entry) = state.entries.get_mut(&self.key)
            && entry.number == self.number
        {
            entry.phase = Phase::Done(before);
        }
    }

    /// Forgets the request: it can be made anew.
    pub(super) fn forget(&self) {
        let Some(replays) = self.replays.upgrade() else {
            return;
        };
        let mut state = replays.state.borrow_mut();
        let entry = state.entries.get(&self.key);
        if entry.is_some_and(|entry| entry.number == self.number) {
            state.entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
