//! What a caller asks for.

use std::time::Duration;

use pawl_lock::{
    Key, Owner, Ttl,
    lease::{Mode, Renew},
};

use super::{AskProblem, EngineError, Field, settings::Settings};

/// The most keys that one acquire may name.
pub const MAX_KEYS: usize = 64;

/// What a caller asks for; what it leaves open is the policy's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// Time to live; default `lease.ttl`, at least what the backend can keep, at most `lease.maxTtl`.
    pub ttl: Option<Duration>,
    /// How long it may queue; default `acquire.wait`, at most `acquire.maxWait`. Zero is a try. One budget for all keys.
    pub wait: Option<Duration>,
    /// The owner's display name; default the sidecar's identity.
    pub owner: Option<Owner>,
    /// Exclusive or shared.
    pub mode: Mode,
    /// Who renews; default `lease.renew`.
    pub renew: Option<Renew>,
    /// The hard cap on the lease's life; default and most `lease.maxHold`.
    pub max_hold: Option<Duration>,
    /// Whether the caller's open stream shows the owner's life, from the grant on. Such a lease has no idle limit, so
    /// the stream must release it when it ends ([`super::Engine::give_up`]).
    pub attached: bool,
}

/// Which keys: one, or several that are taken all or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    /// One. No allocation.
    One(Key),
    /// One to [`MAX_KEYS`], no key twice. They are taken in the order of their bytes, so that two callers that name
    /// them in opposite orders cannot wait for each other.
    Several(Vec<Key>),
}

impl From<Key> for Keys {
    fn from(key: Key) -> Self {
        Self::One(key)
    }
}

impl From<Vec<Key>> for Keys {
    fn from(keys: Vec<Key>) -> Self {
        Self::Several(keys)
    }
}

/// The numbers of an [`Ask`], within the policy's bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Checked {
    pub(super) ttl: Ttl,
    pub(super) wait: Duration,
    pub(super) renew: Renew,
    pub(super) max_hold: Duration,
}

impl Ask {
    /// Fills in what is open and checks the rest. `floor` is the backend's shortest ttl.
    pub(super) fn check(&self, settings: &Settings, floor: Ttl) -> Result<Checked, EngineError> {
        let invalid = |field| move |problem| EngineError::Invalid { field, problem };
        let ttl = match self.ttl {
            Some(ttl) => check_ttl(ttl, settings, floor).map_err(invalid(Field::Ttl))?,
            None => settings.ttl,
        };
        let wait = self.wait.unwrap_or(settings.wait);
        if wait > settings.max_wait {
            let most = settings.max_wait;
            return Err(invalid(Field::Wait)(AskProblem::TooLong { most }));
        }
        let max_hold = match self.max_hold {
            None => settings.max_hold,
            Some(most) if most > settings.max_hold => {
                let most = settings.max_hold;
                return Err(invalid(Field::MaxHold)(AskProblem::TooLong { most }));
            }
            Some(most) if most < Ttl::MIN.as_duration() => {
                let least = Ttl::MIN.as_duration();
                return Err(invalid(Field::MaxHold)(AskProblem::TooShort { least }));
            }
            Some(most) => most,
        };
        Ok(Checked {
            ttl,
            wait,
            renew: self.renew.unwrap_or(settings.renew),
            max_hold,
        })
    }
}

/// A ttl that a caller named, within the policy's bounds and the backend's floor.
pub(super) fn check_ttl(ttl: Duration, settings: &Settings, floor: Ttl) -> Result<Ttl, AskProblem> {
    let least = floor.max(Ttl::MIN).min(settings.ttl).as_duration();
    let most = settings.max_ttl.as_duration();
    if ttl > most {
        return Err(AskProblem::TooLong { most });
    }
    match Ttl::try_new(ttl) {
        Ok(ttl) if ttl.as_duration() >= least => Ok(ttl),
        _ => Err(AskProblem::TooShort { least }),
    }
}

impl Keys {
    /// The keys in the order in which they are taken, the first of them last.
    pub(super) fn in_reverse(self) -> Result<(Key, Vec<Key>), EngineError> {
        let invalid = |problem| EngineError::Invalid {
            field: Field::Keys,
            problem,
        };
        let mut keys = match self {
            Self::One(key) => return Ok((key, Vec::new())),
            Self::Several(keys) => keys,
        };
        if keys.len() > MAX_KEYS {
            return Err(invalid(AskProblem::TooMany { most: MAX_KEYS }));
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(invalid(AskProblem::Duplicate));
        }
        match keys.pop() {
            Some(first) => Ok((first, keys)),
            None => Err(invalid(AskProblem::Empty)),
        }
    }
}
