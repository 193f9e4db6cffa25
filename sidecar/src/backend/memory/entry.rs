//! What is known of one key: its holders, its queue, when its last holder was lost. Pure: functions of state, request
//! and `now`.

use std::{sync::Arc, time::Duration};

use pawl_lock::{
    BackendToken, HoldId, Instant, Key, Owner,
    backend::{
        AcquireRequest, Acquired, BackendEvent, Busy, Granted, Holder, Inspection, RenewRequest,
        Renewed, Wanted,
    },
    lease::{Mode, Order},
};

use super::{Ear, Told};

/// One key.
#[derive(Default)]
pub(super) struct Entry {
    /// None, one, or several in shared mode.
    holders: Vec<Held>,
    /// The queue, oldest first.
    places: Vec<Waiting>,
    /// When the last holder that did not release was lost.
    lost: Option<Instant>,
    /// The last token that was granted.
    pub(super) last_token: u64,
}

struct Held {
    hold: HoldId,
    mode: Mode,
    token: BackendToken,
    owner: Owner,
    since: Instant,
    until: Instant,
    ear: Arc<Ear>,
}

struct Waiting {
    hold: HoldId,
    mode: Mode,
    /// When its caller came, by this clock.
    since: Instant,
    /// When it is dropped unless it is asked for again.
    until: Instant,
    ear: Arc<Ear>,
}

impl Entry {
    pub(super) fn acquire(
        &mut self,
        now: Instant,
        request: &AcquireRequest,
        ear: &Arc<Ear>,
        clock_millis: u64,
        told: &mut Told,
    ) -> Acquired {
        self.prune(now);
        let until = now.saturating_add(request.ttl.as_duration());
        if let Some(held) = self
            .holders
            .iter_mut()
            .find(|held| held.hold == request.hold)
        {
            held.until = until;
            let token = held.token;
            self.places.retain(|place| place.hold != request.hold);
            return self.granted(now, request.mode, token);
        }
        let had_place = self.places.iter().any(|place| place.hold == request.hold);
        let ahead = self.take_place(now, request, ear);
        if let Some(retry_in) = self.obstacle(now, request, ahead) {
            let busy = Busy {
                holder: self.holders.first().map(|held| held.view(now)),
                ahead: Some(u32::try_from(ahead).unwrap_or(u32::MAX)),
                retry_in: Some(retry_in),
            };
            self.tell_wanted(request, told);
            if had_place {
                // It gave up its place, or it polls: the head may have missed its turn.
                self.wake(&request.key, Some(request.hold), told);
            }
            return Acquired::Busy(busy);
        }
        self.places.retain(|place| place.hold != request.hold);
        self.last_token = clock_millis
            .max(self.last_token + 1)
            .min(BackendToken::MAX.get());
        let token = BackendToken::try_new(self.last_token)
            .expect("a number between 1 and the largest token is a token");
        self.holders.push(Held {
            hold: request.hold,
            mode: request.mode,
            token,
            owner: request.owner.clone(),
            since: now,
            until,
            ear: Arc::clone(ear),
        });
        self.lost = None;
        self.wake(&request.key, None, told);
        self.granted(now, request.mode, token)
    }

    /// Puts the attempt in its place, or takes it out of the queue; answers how many are ahead.
    fn take_place(&mut self, now: Instant, request: &AcquireRequest, ear: &Arc<Ear>) -> usize {
        let old = self
            .places
            .iter()
            .position(|place| place.hold == request.hold)
            .map(|index| self.places.remove(index));
        let Some(place) = request.place else {
            return self.places.len();
        };
        let asked = now.saturating_sub(place.age);
        let since = old.map_or(asked, |old| old.since.min(asked));
        let index = self.places.partition_point(|other| other.since <= since);
        self.places.insert(
            index,
            Waiting {
                hold: request.hold,
                mode: request.mode,
                since,
                until: now.saturating_add(place.keep),
                ear: Arc::clone(ear),
            },
        );
        index
    }

    /// What stands in the way, as the time after which asking again makes sense; nothing if nothing does.
    fn obstacle(&self, now: Instant, request: &AcquireRequest, ahead: usize) -> Option<Duration> {
        let is_in_the_way = |mode: Mode| !request.mode.is_compatible(mode);
        let holder = self
            .holders
            .iter()
            .filter(|held| is_in_the_way(held.mode))
            .map(|held| held.until)
            .max();
        let quiet = self
            .lost
            .map(|lost| lost.saturating_add(request.lock_delay))
            .filter(|end| *end > now);
        let queue = || {
            self.places[..ahead.min(self.places.len())]
                .iter()
                .find(|place| request.order == Order::Fifo && is_in_the_way(place.mode))
                .map(|place| place.until)
        };
        let until = holder.or(quiet).or_else(queue)?;
        Some(until.saturating_since(now))
    }

    pub(super) fn renew(
        &mut self,
        now: Instant,
        request: &RenewRequest,
        ear: &Arc<Ear>,
    ) -> Renewed {
        self.prune(now);
        let Some(held) = self
            .holders
            .iter_mut()
            .find(|held| held.hold == request.hold)
        else {
            return Renewed::NotOwner;
        };
        held.until = now.saturating_add(request.ttl.as_duration());
        held.owner = request.owner.clone();
        held.ear = Arc::clone(ear);
        let mode = held.mode;
        Renewed::Extended {
            wanted: self.wanted(now, mode),
        }
    }

    /// Ends the hold cleanly. Answers whether it was there.
    pub(super) fn release(&mut self, now: Instant, hold: HoldId) -> bool {
        self.prune(now);
        let before = self.holders.len();
        self.holders.retain(|held| held.hold != hold);
        self.holders.len() < before
    }

    /// Ends hold and place.
    pub(super) fn abandon(&mut self, now: Instant, hold: HoldId) {
        self.release(now, hold);
        self.places.retain(|place| place.hold != hold);
    }

    pub(super) fn inspect(&mut self, now: Instant) -> Inspection {
        self.prune(now);
        Inspection {
            holders: self.holders.iter().map(|held| held.view(now)).collect(),
            waiters: u32::try_from(self.places.len()).unwrap_or(u32::MAX),
        }
    }

    /// Tells those at the head of the queue whom no holder stands in the way of; not the one that is asking.
    pub(super) fn wake(&self, key: &Key, asking: Option<HoldId>, told: &mut Told) {
        for (index, place) in self.places.iter().enumerate() {
            let is_head = index == 0 || place.mode == Mode::Shared;
            let is_free = self
                .holders
                .iter()
                .all(|held| held.mode.is_compatible(place.mode));
            if !is_head || !is_free {
                break;
            }
            if Some(place.hold) != asking {
                told.push((
                    Arc::clone(&place.ear),
                    BackendEvent::Turn { key: key.clone() },
                ));
            }
            if place.mode == Mode::Exclusive {
                break;
            }
        }
    }

    /// Whether it can be forgotten without anybody noticing.
    pub(super) fn is_idle(&mut self, now: Instant, clock_millis: u64, lost_kept: Duration) -> bool {
        self.prune(now);
        self.holders.is_empty()
            && self.places.is_empty()
            && self.last_token < clock_millis
            && self
                .lost
                .is_none_or(|lost| now.saturating_since(lost) > lost_kept)
    }

    /// Empties it, keeping what it allocated.
    pub(super) fn clear(&mut self) {
        self.holders.clear();
        self.places.clear();
        self.lost = None;
        self.last_token = 0;
    }

    /// Drops what ended: holds that nobody renewed, places that nobody asked for.
    fn prune(&mut self, now: Instant) {
        let lost = self
            .holders
            .iter()
            .map(|held| held.until)
            .filter(|until| *until <= now)
            .max();
        if lost.is_some() {
            self.lost = self.lost.max(lost);
            self.holders.retain(|held| held.until > now);
        }
        self.places.retain(|place| place.until > now);
    }

    fn granted(&self, now: Instant, mode: Mode, token: BackendToken) -> Acquired {
        Acquired::Granted(Granted {
            token,
            session: 0,
            wanted: self.wanted(now, mode),
        })
    }

    /// The oldest waiter that a hold in this mode stands in the way of.
    fn wanted(&self, now: Instant, mode: Mode) -> Option<Wanted> {
        self.places
            .iter()
            .find(|place| !place.mode.is_compatible(mode))
            .map(|place| Wanted {
                mode: place.mode,
                age: now.saturating_since(place.since),
            })
    }

    fn tell_wanted(&self, request: &AcquireRequest, told: &mut Told) {
        let Some(place) = request.place else { return };
        let wanted = Wanted {
            mode: request.mode,
            age: place.age,
        };
        for held in self
            .holders
            .iter()
            .filter(|held| !held.mode.is_compatible(request.mode))
        {
            let key = request.key.clone();
            told.push((Arc::clone(&held.ear), BackendEvent::Wanted { key, wanted }));
        }
    }
}

impl Held {
    fn view(&self, now: Instant) -> Holder {
        Holder {
            owner: self.owner.clone(),
            mode: self.mode,
            token: Some(self.token),
            held_for: Some(now.saturating_since(self.since)),
            expires_in: Some(self.until.saturating_since(now)),
        }
    }
}
