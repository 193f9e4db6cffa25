//! What this process knows of objects: how they were when seen last, since when, and what of them is its own.
//!
//! Nothing here grants anything: a decision that is made on an old version fails at the server. It saves reads, and it
//! is where events find those that they matter to.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use pawl_lock::{
    HoldId, Instant, Key, Ttl,
    backend::{AcquireRequest, BackendEvent},
    lease::Mode,
};
use tokio::sync::Notify;

use super::{
    decide::{self, View},
    name::Names,
    record::{Garbled, Record},
    sights::{Sights, What},
};

/// How many objects are remembered that nothing of this process is in.
const MOST_IDLE: usize = 2_000;
/// How long: longer than anybody's ttl, so that a dead holder's end is seen also by one that only tries now and then.
const IDLE_FOR: Duration = Duration::from_mins(65);

/// The objects of one scope.
pub(super) struct Known {
    names: Names,
    state: Mutex<State>,
    /// Told when there is something to watch for.
    pub(super) wanted: Notify,
}

#[derive(Default)]
struct State {
    objects: HashMap<String, Object>,
    /// How many objects have something of this process in them.
    own: usize,
    /// The number of the last hold's session.
    sessions: u64,
    watch: Watch,
    /// Whether this process ever wrote an object of the scope.
    has_written: bool,
}

/// Whether the scope is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    /// It is not, and need not be.
    #[default]
    Off,
    /// It should be, from this version on.
    From(String),
    /// It is, from this version on.
    On(u64),
}

struct Object {
    key: Key,
    latest: Option<Lease>,
    sights: Sights,
    places: Vec<AcquireRequest>,
    holds: Vec<OwnHold>,
    /// The waiter that was told last.
    told: Option<HoldId>,
    used: Instant,
}

struct OwnHold {
    hold: HoldId,
    mode: Mode,
    ttl: Ttl,
    /// When it is over at the latest if it is not extended.
    over: Instant,
    session: u64,
    /// The version that it was written in last.
    version: u64,
}

/// What an attempt has of an object now.
pub(super) enum Own<'a> {
    /// It holds.
    Hold(&'a AcquireRequest),
    /// It waits.
    Place(&'a AcquireRequest),
    /// Nothing.
    Nothing(HoldId),
}

/// A moment, as [`View`] needs it.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: i64,
    pub(super) salt: u16,
}

impl Known {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            state: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    /// The object as it was seen last.
    pub(super) fn latest(&self, name: &str) -> Option<Lease> {
        self.state().objects.get(name)?.latest.clone()
    }

    /// Forgets how it was: the next look is a read.
    pub(super) fn forget(&self, name: &str) {
        if let Some(object) = self.state().objects.get_mut(name) {
            object.latest = None;
        }
    }

    /// Reads an object (or nothing, where none is) and decides on it.
    pub(super) fn decide<T>(
        &self,
        name: &str,
        key: &Key,
        lease: Option<&Lease>,
        moment: Moment,
        act: impl FnOnce(&mut Record, &View<'_>) -> T,
    ) -> Result<(T, Record), Garbled> {
        let mut record = match lease {
            Some(lease) => Record::read(lease, &self.names, key)?,
            None => Record::default(),
        };
        let mut state = self.state();
        let object = state.object(name, key, moment.now);
        object.sights.look(&record, moment.now);
        let view = moment.with(&object.sights);
        let answer = act(&mut record, &view);
        Ok((answer, record))
    }

    /// Takes note of a write before it is sent.
    pub(super) fn tries(&self, name: &str, key: &Key, wrote: &[(What, u64)], now: Instant) {
        let mut state = self.state();
        state.has_written = true;
        state.object(name, key, now).sights.tries(wrote, now);
    }

    /// Takes note of an object that was read or written, unless a newer version is known.
    pub(super) fn saw(&self, name: &str, key: &Key, lease: Option<&Lease>, now: Instant) {
        let mut state = self.state();
        let object = state.object(name, key, now);
        if let Some(lease) = lease {
            object.keep(lease);
        } else {
            object.latest = None;
        }
    }

    /// Takes note of what an attempt has now; called before a place is written, so that no event is missed, and after
    /// everything else. Answers a hold's session, and what it lets go of.
    pub(super) fn own(
        &self,
        name: &str,
        key: &Key,
        own: &Own<'_>,
        version: u64,
        now: Instant,
    ) -> Owned {
        let mut state = self.state();
        let next = state.sessions + 1;
        let object = state.object(name, key, now);
        let had = object.is_own();
        let hold = match own {
            Own::Hold(request) | Own::Place(request) => request.hold,
            Own::Nothing(hold) => *hold,
        };
        object.places.retain(|place| place.hold != hold);
        let before = object
            .holds
            .iter()
            .position(|held| held.hold == hold)
            .map(|index| object.holds.swap_remove(index));
        let mut owned = Owned {
            session: 0,
            before: before.as_ref().map(|held| held.ttl),
        };
        match own {
            Own::Hold(request) => {
                owned.session = before.map_or(next, |held| held.session);
                object.holds.push(OwnHold {
                    hold,
                    mode: request.mode,
                    ttl: request.ttl,
                    over: now.saturating_add(request.ttl.as_duration()),
                    session: owned.session,
                    version,
                });
            }
            Own::Place(request) => object.places.push((*request).clone()),
            Own::Nothing(_) => {}
        }
        let has = object.is_own();
        if object.holds.is_empty() {
            object.told = None;
        }
        state.sessions = state.sessions.max(owned.session);
        state.own = state.own + usize::from(has) - usize::from(had);
        owned
    }

    /// A hold was extended by a write of this version.
    pub(super) fn extended(
        &self,
        name: &str,
        hold: HoldId,
        ttl: Ttl,
        version: u64,
        now: Instant,
    ) -> Option<Ttl> {
        let mut state = self.state();
        let object = state.objects.get_mut(name)?;
        let held = object.holds.iter_mut().find(|held| held.hold == hold)?;
        held.version = held.version.max(version);
        held.over = held.over.max(now.saturating_add(ttl.as_duration()));
        Some(std::mem::replace(&mut held.ttl, ttl))
    }

    /// Asks for a watch from the version on if none is there. Answers whether one is that began later, so that an event
    /// may have been missed.
    pub(super) fn watch_from(&self, version: &str) -> bool {
        let mut state = self.state();
        match &state.watch {
            Watch::Off => {
                state.watch = Watch::From(version.to_owned());
                self.wanted.notify_one();
                false
            }
            Watch::From(_) => false,
            Watch::On(from) => number(Some(version)) < *from,
        }
    }

    pub(super) fn watch(&self) -> Watch {
        self.state().watch.clone()
    }

    pub(super) fn set_watch(&self, watch: Watch) {
        self.state().watch = watch;
    }

    /// Forgets holds of this process that are over and that nobody let go; answers their ttls.
    pub(super) fn prune(&self, now: Instant) -> Vec<Ttl> {
        let mut state = self.state();
        let (mut over, mut left) = (Vec::new(), 0);
        for object in state.objects.values_mut().filter(|object| object.is_own()) {
            let gone = object.holds.extract_if(.., |held| held.over <= now);
            over.extend(gone.map(|held| held.ttl));
            left += usize::from(object.is_own());
        }
        state.own = left;
        over
    }

    /// Stops asking for a watch, if nothing of this process is anywhere.
    pub(super) fn stop_watch_if_idle(&self) -> bool {
        let mut state = self.state();
        if state.own == 0 {
            state.watch = Watch::Off;
        }
        state.own == 0
    }

    pub(super) fn has_written(&self) -> bool {
        self.state().has_written
    }

    /// An object changed or went away: what those must be told whom it matters to.
    pub(super) fn changed(
        &self,
        lease: &Lease,
        is_gone: bool,
        moment: Moment,
    ) -> Vec<BackendEvent> {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let version = number(lease.metadata.resource_version.as_deref());
        let mut state = self.state();
        let Some(object) = state.objects.get_mut(name) else {
            return Vec::new();
        };
        let seen = object
            .latest
            .as_ref()
            .and_then(|seen| seen.metadata.resource_version.as_deref());
        if number(seen) > version {
            return Vec::new();
        }
        if is_gone {
            object.latest = None;
        } else {
            object.keep(lease);
        }
        let record = if is_gone {
            Record::default()
        } else {
            match Record::read(lease, &self.names, &object.key) {
                Ok(record) => record,
                // Whoever asks is told.
                Err(_) => return Vec::new(),
            }
        };
        object.tell(&record, version, moment)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Known::own`] found.
pub(super) struct Owned {
    /// The session of the hold, if it is one.
    pub(super) session: u64,
    /// The ttl of the hold that the attempt had before.
    pub(super) before: Option<Ttl>,
}

impl State {
    fn object(&mut self, name: &str, key: &Key, now: Instant) -> &mut Object {
        if !self.objects.contains_key(name) {
            self.make_room(now);
        }
        let object = self
            .objects
            .entry(name.to_owned())
            .or_insert_with(|| Object {
                key: key.clone(),
                latest: None,
                sights: Sights::default(),
                places: Vec::new(),
                holds: Vec::new(),
                told: None,
                used: now,
            });
        object.used = now;
        object
    }

    /// Forgets what was not used for long, and more if there is too much of it.
    fn make_room(&mut self, now: Instant) {
        if self.objects.len() - self.own.min(self.objects.len()) < MOST_IDLE {
            return;
        }
        let mut ages: Vec<Duration> = self
            .objects
            .values()
            .filter(|object| !object.is_own())
            .map(|object| now.saturating_since(object.used))
            .collect();
        ages.sort_unstable();
        let most = ages
            .get(MOST_IDLE / 2)
            .copied()
            .unwrap_or(IDLE_FOR)
            .min(IDLE_FOR);
        self.objects
            .retain(|_, object| object.is_own() || now.saturating_since(object.used) < most);
    }
}

impl Object {
    fn is_own(&self) -> bool {
        !(self.places.is_empty() && self.holds.is_empty())
    }

    fn keep(&mut self, lease: &Lease) {
        let version = |lease: &Lease| number(lease.metadata.resource_version.as_deref());
        if self
            .latest
            .as_ref()
            .is_none_or(|known| version(known) <= version(lease))
        {
            self.latest = Some(lease.clone());
        }
    }

    fn tell(&mut self, record: &Record, version: u64, moment: Moment) -> Vec<BackendEvent> {
        self.sights.look(record, moment.now);
        let view = moment.with(&self.sights);
        let mut events = Vec::new();
        for request in &self.places {
            if decide::is_turn(record, &view, request) {
                events.push(BackendEvent::Turn {
                    key: self.key.clone(),
                });
                break;
            }
        }
        for held in &self.holds {
            if record.held(held.hold).is_none() && version > held.version {
                events.push(BackendEvent::SessionLost {
                    session: held.session,
                });
                continue;
            }
            let Some((waiter, wanted)) = decide::wanted(record, &view, held.mode) else {
                self.told = None;
                continue;
            };
            if self.told.replace(waiter) != Some(waiter) {
                events.push(BackendEvent::Wanted {
                    key: self.key.clone(),
                    wanted,
                });
            }
        }
        events
    }
}

impl Moment {
    fn with(self, sights: &Sights) -> View<'_> {
        View {
            sights,
            now: self.now,
            wall: self.wall,
            salt: self.salt,
        }
    }
}

/// A version as a number: etcd's revision, which grows. Clients should not look into it (and nothing is granted on it),
/// but Kubernetes' own reflectors compare it this way since 1.35.
pub(super) fn number(version: Option<&str>) -> u64 {
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
