//! What a Lease says about one key.
//!
//! The spec is what everybody understands: `kubectl get leases`, and programs that elect a leader on the same object.
//! What more there is to a Pawl lock (several holders, the queue, tokens, the fence) is in annotations. A spec that is
//! not as Pawl wrote it last is another program's: if it names a holder, that program holds the key.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use pawl_lock::{BackendToken, HoldId, Key, Owner, Ttl, lease::Mode};

use super::{name::Names, sights::What};
use form::{Form, FormHolder, FormPlace};
pub(super) use form::{KEY, SCOPE_LABEL};

mod form;
mod spec;

/// The most shared holders of one key.
pub(super) const MAX_HOLDERS: usize = 200;
/// The most places in one key's queue.
pub(super) const MAX_PLACES: usize = 400;
/// The most bytes of all annotations of an object, of the 262 144 that Kubernetes allows.
const MAX_ANNOTATIONS: usize = 200_000;

/// What a Lease says about one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// None, one, or several in shared mode; also those that nobody let go.
    pub(super) holders: Vec<Held>,
    /// The queue, oldest first.
    pub(super) places: Vec<Waiting>,
    /// The last token that was granted; 0 before the first.
    pub(super) token: u64,
    /// The highest token that the fence saw; 0 before the first.
    pub(super) fence: u64,
    /// When it was written last, by the writer's wall clock, in milliseconds. For the sweep alone.
    pub(super) touched: i64,
    spec: LeaseSpec,
    /// How often Pawl wrote it.
    serial: u64,
    /// What Pawl wrote into the spec last.
    written: Option<String>,
}

/// A hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) hold: HoldId,
    pub(super) mode: Mode,
    pub(super) token: BackendToken,
    pub(super) ttl: Ttl,
    pub(super) owner: Owner,
    /// When it was granted, by the holder's wall clock, in milliseconds. Shown, never decided on.
    pub(super) since: i64,
    /// Another with each renewal.
    pub(super) stamp: u64,
}

/// A place in the queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) hold: HoldId,
    pub(super) mode: Mode,
    /// When its caller came, by its sidecar's wall clock, in milliseconds. The queue is sorted by it.
    pub(super) since: i64,
    /// How long it lives without being asked for again.
    pub(super) keep: Duration,
    /// Another each time it is asked for.
    pub(super) stamp: u64,
}

/// Another program holds the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Foreign {
    pub(super) identity: String,
    pub(super) duration: Duration,
}

/// Why an object is not a record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Garbled {
    /// Somebody edited it.
    #[error("{0}")]
    Text(String),
    /// It is another key's.
    #[error("it is for the key {0}, whose hash is the same: rename one of the keys")]
    OtherKey(String),
}

/// More than an object has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoRoom {
    /// Holders.
    #[error("it has {MAX_HOLDERS} shared holders, the most that fit into a Lease")]
    Holders,
    /// Places.
    #[error("{MAX_PLACES} sidecars wait for it, the most that fit into a Lease")]
    Places,
    /// Bytes.
    #[error("its annotations would be longer than Kubernetes allows")]
    Bytes,
    /// Tokens.
    #[error("its tokens are used up (somebody set pawl.dev/token): delete the object")]
    Tokens,
}

impl Record {
    /// Reads an object; one without Pawl's annotations is another program's, or new.
    pub(super) fn read(lease: &Lease, names: &Names, key: &Key) -> Result<Self, Garbled> {
        let spec = lease.spec.clone().unwrap_or_default();
        let Some(form) = Form::read(lease.metadata.annotations.as_ref())? else {
            let record = Self {
                spec,
                ..Self::default()
            };
            return record.check();
        };
        if form.scope != names.scope().as_str() || form.key != key.as_str() {
            return Err(Garbled::OtherKey(format!("{}|{}", form.scope, form.key)));
        }
        let mut record = Self {
            holders: form
                .state
                .holders
                .iter()
                .map(FormHolder::read)
                .collect::<Result<_, _>>()?,
            places: form
                .state
                .waiters
                .iter()
                .map(FormPlace::read)
                .collect::<Result<_, _>>()?,
            token: form.token,
            fence: form.fence,
            touched: form.state.touched,
            spec,
            serial: form.state.serial,
            written: form.state.written,
        };
        record.places.sort_by_key(|place| (place.since, place.hold));
        record.check()
    }

    fn check(self) -> Result<Self, Garbled> {
        let wrong = |what: &str| Err(Garbled::Text(what.to_owned()));
        let exclusive = self
            .holders
            .iter()
            .filter(|held| held.mode == Mode::Exclusive);
        if self.holders.len() > 1 && exclusive.count() > 0 {
            return wrong("an exclusive holder is not alone");
        }
        if self
            .holders
            .iter()
            .any(|held| held.token.get() > self.token)
        {
            return wrong("a holder's token is larger than pawl.dev/token");
        }
        let mut ids: Vec<_> = self.holders.iter().map(|held| held.hold).collect();
        ids.extend(self.places.iter().map(|place| place.hold));
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("an attempt is in it twice");
        }
        if self
            .foreign()
            .is_some_and(|foreign| foreign.duration.is_zero())
        {
            return wrong("spec.holderIdentity is set and spec.leaseDurationSeconds is not");
        }
        Ok(self)
    }

    /// The other program that the spec names as holder, whether it still is or not.
    pub(super) fn foreign(&self) -> Option<Foreign> {
        let identity = self.spec.holder_identity.as_deref().unwrap_or_default();
        if identity.is_empty() || self.written.as_deref() == Some(&spec::text(&self.spec)) {
            return None;
        }
        let seconds = self.spec.lease_duration_seconds.unwrap_or(0);
        Some(Foreign {
            identity: identity.to_owned(),
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        })
    }

    /// Everything in it that ends if it stays as it is, with what tells whether it did.
    pub(super) fn stamps(&self) -> impl Iterator<Item = (What, u64)> {
        let holders = self
            .holders
            .iter()
            .map(|held| (What::Hold(held.hold), held.stamp));
        let places = self
            .places
            .iter()
            .map(|place| (What::Place(place.hold), place.stamp));
        let foreign = self
            .foreign()
            .map(|_| (What::Foreign, spec::stamp(&self.spec)));
        holders.chain(places).chain(foreign)
    }

    /// The hold of this id.
    pub(super) fn held(&self, hold: HoldId) -> Option<&Held> {
        self.holders.iter().find(|held| held.hold == hold)
    }

    /// The index of this id's place.
    pub(super) fn place(&self, hold: HoldId) -> Option<usize> {
        self.places.iter().position(|place| place.hold == hold)
    }

    /// How long anything in it lasts at most if it stays as it is.
    pub(super) fn lasts(&self) -> Duration {
        let holders = self.holders.iter().map(|held| held.ttl.as_duration());
        let places = self.places.iter().map(|place| place.keep);
        let foreign = self.foreign().map(|foreign| foreign.duration);
        holders
            .chain(places)
            .chain(foreign)
            .max()
            .unwrap_or_default()
    }

    /// How often its holder changed, as the spec counts it.
    pub(super) fn transitions(&self) -> u64 {
        u64::try_from(self.spec.lease_transitions.unwrap_or(0)).unwrap_or(0)
    }

    /// Makes the spec show the holders. `is_new` counts another transition. Takes it over if it was another program's.
    pub(super) fn show_holders(&mut self, wall: i64, is_new: bool) {
        self.spec = spec::of(&self.holders, &self.spec, wall, is_new);
        self.written = Some(spec::text(&self.spec));
    }

    /// Writes it into the object it was read from, or into a new one. The object always changes, so that its version
    /// does and whatever is still on its way to the old version fails.
    pub(super) fn write(
        &mut self,
        lease: &mut Lease,
        names: &Names,
        key: &Key,
        wall: i64,
    ) -> Result<(), NoRoom> {
        if self.holders.len() > MAX_HOLDERS {
            return Err(NoRoom::Holders);
        }
        if self.places.len() > MAX_PLACES {
            return Err(NoRoom::Places);
        }
        self.serial = self.serial.wrapping_add(1);
        self.touched = wall;
        let annotations = lease.metadata.annotations.get_or_insert_default();
        self.form(names, key).write(annotations);
        let bytes = annotations
            .iter()
            .map(|(name, value)| name.len() + value.len());
        if bytes.sum::<usize>() > MAX_ANNOTATIONS {
            return Err(NoRoom::Bytes);
        }
        form::label(lease.metadata.labels.get_or_insert_default(), names);
        lease.metadata.managed_fields = None;
        lease.spec = Some(self.spec.clone());
        Ok(())
    }

    fn form(&self, names: &Names, key: &Key) -> Form {
        Form {
            scope: names.scope().as_str().to_owned(),
            key: key.as_str().to_owned(),
            token: self.token,
            fence: self.fence,
            state: form::State {
                version: form::VERSION,
                serial: self.serial,
                touched: self.touched,
                holders: self.holders.iter().map(FormHolder::write).collect(),
                waiters: self.places.iter().map(FormPlace::write).collect(),
                written: self.written.clone(),
                token: self.token,
                fence: self.fence,
            },
        }
    }
}

#[cfg(test)]
mod tests;
