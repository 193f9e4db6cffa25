//! What a call does to a record. Pure: functions of the record, what was seen of it, the request and `now`.
//!
//! Each changes the record and says whether it did. What comes of it is decided by the server: a change counts only if
//! the object is still the one that was read.

use std::time::Duration;

use pawl_lock::{
    BackendToken, HoldId, Instant, Owner, Ttl,
    backend::{
        AcquireRequest, Acquired, Busy, Granted, Holder, Inspection, RenewRequest, Renewed, Wanted,
    },
    lease::{Mode, Order},
};

use super::{
    record::{Held, MAX_HOLDERS, MAX_PLACES, NoRoom, Record, Waiting},
    sights::{Sights, What},
};

/// A moment, and what was seen until then.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) sights: &'a Sights,
    pub(super) now: Instant,
    /// The wall clock, in milliseconds: for tokens, for the queue's order, and to be shown.
    pub(super) wall: i64,
    /// Makes stamps differ also from those of writes whose outcome is not known.
    pub(super) salt: u16,
}

/// What a call changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Whether the object must be written.
    pub(super) is_needed: bool,
    /// What of it this process wrote, and how it can be told.
    pub(super) wrote: Vec<(What, u64)>,
}

/// What stands in the way of an attempt.
#[derive(Clone, Copy, Debug)]
struct Obstacle {
    until: Instant,
}

impl View<'_> {
    /// When a hold is over if it stays as it is.
    pub(super) fn hold_end(&self, held: &Held) -> Instant {
        self.end(What::Hold(held.hold), held.ttl.as_duration())
    }

    fn place_end(&self, place: &Waiting) -> Instant {
        self.end(What::Place(place.hold), place.keep)
    }

    fn end(&self, what: What, after: Duration) -> Instant {
        self.sights
            .since(what)
            .unwrap_or(self.now)
            .saturating_add(after)
    }

    /// The ttl that reaches as far as was asked for, and not less far than the hold reaches already: a call that was late
    /// must not shorten what another one reached.
    fn extended(&self, held: &Held, ttl: Ttl) -> Ttl {
        let left = self.hold_end(held).saturating_since(self.now);
        let left = left
            .saturating_add(Duration::from_millis(1))
            .min(Ttl::MAX.as_duration());
        Ttl::try_new(left).map_or(ttl, |left| left.max(ttl))
    }

    fn is_held(&self, held: &Held) -> bool {
        self.hold_end(held) > self.now
    }

    fn is_waiting(&self, place: &Waiting) -> bool {
        self.place_end(place) > self.now
    }

    /// When another program's lease is over if it stays as it is; nothing if there is none.
    fn foreign_end(&self, record: &Record) -> Option<Instant> {
        record
            .foreign()
            .map(|foreign| self.end(What::Foreign, foreign.duration))
    }

    fn is_foreign(&self, record: &Record) -> bool {
        self.foreign_end(record).is_some_and(|end| end > self.now)
    }

    fn stamp(&self, before: u64) -> u64 {
        before.wrapping_add(1).wrapping_add(self.salt.into())
    }

    fn age(&self, since: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.wall.saturating_sub(since)).unwrap_or(0))
    }
}

/// Asks for a hold.
pub(super) fn acquire(
    record: &mut Record,
    view: &View<'_>,
    request: &AcquireRequest,
    changes: &mut Changes,
) -> Result<Acquired, NoRoom> {
    if let Some(token) = extend_own(record, view, request, changes) {
        return Ok(granted(record, view, request, token));
    }
    if let Some(obstacle) = obstacle(record, view, request) {
        let retry_in = obstacle.until.saturating_since(view.now);
        take_place(record, view, request, changes)?;
        return Ok(Acquired::Busy(Busy {
            holder: shown_holder(record, view),
            ahead: Some(ahead(record, view, request)),
            retry_in: Some(retry_in),
        }));
    }
    let token = grant(record, view, request, changes)?;
    Ok(granted(record, view, request, token))
}

/// Extends the hold if it is this attempt's already.
fn extend_own(
    record: &mut Record,
    view: &View<'_>,
    request: &AcquireRequest,
    changes: &mut Changes,
) -> Option<BackendToken> {
    if view.is_foreign(record) {
        return None;
    }
    let held = record
        .holders
        .iter_mut()
        .find(|held| held.hold == request.hold)?;
    if !view.is_held(held) {
        return None;
    }
    held.ttl = view.extended(held, request.ttl);
    held.owner = request.owner.clone();
    held.stamp = view.stamp(held.stamp);
    let (token, stamp) = (held.token, held.stamp);
    record.places.retain(|place| place.hold != request.hold);
    record.show_holders(view.wall, false);
    changes.is_needed = true;
    changes.wrote.push((What::Hold(request.hold), stamp));
    Some(token)
}

/// What stands in the way of the attempt, and until when if nothing changes.
fn obstacle(record: &Record, view: &View<'_>, request: &AcquireRequest) -> Option<Obstacle> {
    let is_in_the_way = |mode: Mode| !request.mode.is_compatible(mode);
    let held = record
        .holders
        .iter()
        .filter(|held| view.is_held(held) && is_in_the_way(held.mode))
        .map(|held| view.hold_end(held));
    let holder = held
        .chain(view.foreign_end(record).filter(|end| *end > view.now))
        .max();
    // Quiet time counts from when the loss was seen here: a hold that is over and was not let go is still in the record.
    let lost = record.holders.iter().map(|held| view.hold_end(held));
    let quiet = lost
        .chain(view.foreign_end(record))
        .filter(|end| *end <= view.now)
        .map(|end| end.saturating_add(request.lock_delay))
        .filter(|end| *end > view.now)
        .max();
    let queue = || {
        let mut older = older(record, view, request);
        let first = older.find(|place| request.order == Order::Fifo && is_in_the_way(place.mode));
        first.map(|place| view.place_end(place))
    };
    holder
        .max(quiet)
        .or_else(queue)
        .map(|until| Obstacle { until })
}

/// The places before the one that the attempt has or would take. Of two that came in the same millisecond, the one with
/// the smaller id is first.
fn older<'a>(
    record: &'a Record,
    view: &View<'a>,
    request: &AcquireRequest,
) -> impl Iterator<Item = &'a Waiting> {
    let view = *view;
    let own = since(record, &view, request).map(|since| (since, request.hold));
    record.places.iter().filter(move |place| {
        own.is_none_or(|own| (place.since, place.hold) < own) && view.is_waiting(place)
    })
}

/// Since when the attempt waits; nothing if it does not. A place may become older, not younger.
fn since(record: &Record, view: &View<'_>, request: &AcquireRequest) -> Option<i64> {
    let place = request.place?;
    let age = i64::try_from(place.age.as_millis()).unwrap_or(i64::MAX);
    let asked = view.wall.saturating_sub(age);
    let stands = record
        .place(request.hold)
        .map(|index| record.places[index].since);
    Some(stands.map_or(asked, |since| since.min(asked)))
}

fn ahead(record: &Record, view: &View<'_>, request: &AcquireRequest) -> u32 {
    u32::try_from(older(record, view, request).count()).unwrap_or(u32::MAX)
}

/// Puts the attempt into its place, or takes it out of the queue. A place that stands and was asked for a while ago
/// only is left as it is, which costs no write.
fn take_place(
    record: &mut Record,
    view: &View<'_>,
    request: &AcquireRequest,
    changes: &mut Changes,
) -> Result<(), NoRoom> {
    let id = request.hold;
    let Some((place, since)) = request.place.zip(since(record, view, request)) else {
        if record.place(id).is_some() {
            record.places.retain(|place| place.hold != id);
            changes.is_needed = true;
        }
        return Ok(());
    };
    let what = What::Place(id);
    let old = record.place(id).map(|index| record.places[index].clone());
    if let Some(old) = &old {
        let fresh_for = (place.keep / 2).min(old.keep / 2);
        let is_fresh = view
            .sights
            .since(what)
            .is_some_and(|seen| view.now.saturating_since(seen) < fresh_for);
        // A few milliseconds are between reading two clocks.
        if is_fresh && old.mode == request.mode && old.since <= since.saturating_add(50) {
            return Ok(());
        }
    }
    record
        .places
        .retain(|other| other.hold != id && view.is_waiting(other));
    if record.places.len() >= MAX_PLACES {
        return Err(NoRoom::Places);
    }
    let stamp = view.stamp(old.map_or(0, |old| old.stamp));
    let index = record
        .places
        .partition_point(|other| (other.since, other.hold) < (since, id));
    let place = Waiting {
        hold: id,
        mode: request.mode,
        since,
        keep: place.keep,
        stamp,
    };
    record.places.insert(index, place);
    changes.is_needed = true;
    changes.wrote.push((what, stamp));
    Ok(())
}

fn grant(
    record: &mut Record,
    view: &View<'_>,
    request: &AcquireRequest,
    changes: &mut Changes,
) -> Result<BackendToken, NoRoom> {
    record.holders.retain(|held| view.is_held(held));
    record
        .places
        .retain(|place| place.hold != request.hold && view.is_waiting(place));
    if record.holders.len() >= MAX_HOLDERS {
        return Err(NoRoom::Holders);
    }
    let token = next_token(record, view.wall)?;
    let stamp = view.stamp(0);
    record.token = token.get();
    record.holders.push(Held {
        hold: request.hold,
        mode: request.mode,
        token,
        ttl: request.ttl,
        owner: request.owner.clone(),
        since: view.wall,
        stamp,
    });
    record.show_holders(view.wall, true);
    changes.is_needed = true;
    changes.wrote.push((What::Hold(request.hold), stamp));
    Ok(token)
}

/// Larger than the last one, than the times that the lease changed hands, and not below the clock: an object that was
/// deleted starts anew, and the clock went on.
fn next_token(record: &Record, wall: i64) -> Result<BackendToken, NoRoom> {
    let clock = u64::try_from(wall)
        .unwrap_or(0)
        .min(BackendToken::MAX.get() / 2);
    let next = (record.token + 1).max(record.transitions() + 2).max(clock);
    BackendToken::try_new(next).map_err(|_| NoRoom::Tokens)
}

fn granted(
    record: &Record,
    view: &View<'_>,
    request: &AcquireRequest,
    token: BackendToken,
) -> Acquired {
    Acquired::Granted(Granted {
        token,
        session: 0,
        wanted: wanted(record, view, request.mode).map(|(_, wanted)| wanted),
    })
}

/// The oldest waiter that a hold in this mode stands in the way of.
pub(super) fn wanted(record: &Record, view: &View<'_>, mode: Mode) -> Option<(HoldId, Wanted)> {
    let mut waiting = record.places.iter().filter(|place| view.is_waiting(place));
    let place = waiting.find(|place| !place.mode.is_compatible(mode))?;
    let wanted = Wanted {
        mode: place.mode,
        age: view.age(place.since),
    };
    Some((place.hold, wanted))
}

/// Whether the attempt, which has a place, would be granted now.
pub(super) fn is_turn(record: &Record, view: &View<'_>, request: &AcquireRequest) -> bool {
    obstacle(record, view, request).is_none()
}

/// Extends a hold that is this id's and not over.
pub(super) fn renew(
    record: &mut Record,
    view: &View<'_>,
    request: &RenewRequest,
    changes: &mut Changes,
) -> Renewed {
    if view.is_foreign(record) {
        return Renewed::NotOwner;
    }
    let Some(held) = record
        .holders
        .iter_mut()
        .find(|held| held.hold == request.hold)
    else {
        return Renewed::NotOwner;
    };
    if !view.is_held(held) {
        return Renewed::NotOwner;
    }
    held.ttl = view.extended(held, request.ttl);
    held.owner = request.owner.clone();
    held.stamp = view.stamp(held.stamp);
    let (mode, stamp) = (held.mode, held.stamp);
    record.show_holders(view.wall, false);
    changes.is_needed = true;
    changes.wrote.push((What::Hold(request.hold), stamp));
    Renewed::Extended {
        wanted: wanted(record, view, mode).map(|(_, wanted)| wanted),
    }
}

/// Lets a hold go that is this id's and not over. One that is over stays, so that its loss is seen.
pub(super) fn release(
    record: &mut Record,
    view: &View<'_>,
    hold: HoldId,
    changes: &mut Changes,
) -> bool {
    let was_owner =
        record.held(hold).is_some_and(|held| view.is_held(held)) && !view.is_foreign(record);
    if was_owner {
        remove(record, view, hold);
        changes.is_needed = true;
    }
    was_owner
}

/// Takes hold and place out, whatever their state; and writes in any case, so that a call to the version before fails.
pub(super) fn abandon(record: &mut Record, view: &View<'_>, hold: HoldId, changes: &mut Changes) {
    record.places.retain(|place| place.hold != hold);
    if record.held(hold).is_some() {
        remove(record, view, hold);
    }
    changes.is_needed = true;
}

fn remove(record: &mut Record, view: &View<'_>, hold: HoldId) {
    record.holders.retain(|held| held.hold != hold);
    // Another program's lease is not ours to rewrite.
    if record.foreign().is_none() {
        record.show_holders(view.wall, false);
    }
}

/// Who holds the key and how many wait.
pub(super) fn inspect(record: &Record, view: &View<'_>) -> Inspection {
    let held = record.holders.iter().filter(|held| view.is_held(held));
    let mut holders: Vec<_> = held.map(|held| shown(view, held)).collect();
    holders.extend(shown_foreign(record, view));
    let waiting = record.places.iter().filter(|place| view.is_waiting(place));
    Inspection {
        holders,
        waiters: u32::try_from(waiting.count()).unwrap_or(u32::MAX),
    }
}

fn shown_holder(record: &Record, view: &View<'_>) -> Option<Holder> {
    let held = record.holders.iter().find(|held| view.is_held(held));
    held.map(|held| shown(view, held))
        .or_else(|| shown_foreign(record, view))
}

fn shown(view: &View<'_>, held: &Held) -> Holder {
    Holder {
        owner: held.owner.clone(),
        mode: held.mode,
        token: Some(held.token),
        held_for: Some(view.age(held.since)),
        expires_in: Some(view.hold_end(held).saturating_since(view.now)),
    }
}

fn shown_foreign(record: &Record, view: &View<'_>) -> Option<Holder> {
    let (foreign, end) = record
        .foreign()
        .zip(view.foreign_end(record).filter(|end| *end > view.now))?;
    let printable = foreign
        .identity
        .chars()
        .filter(|char| matches!(char, ' '..='~'));
    let name: String = printable.take(Owner::MAX_LEN).collect();
    let owner = Owner::try_new(&name)
        .or_else(|_| Owner::try_new("another program"))
        .ok()?;
    Some(Holder {
        owner,
        mode: Mode::Exclusive,
        token: None,
        held_for: None,
        expires_in: Some(end.saturating_since(view.now)),
    })
}

#[cfg(test)]
mod tests;
