//! The reference lock: a server that is obviously right, since it keeps everything in the open and decides by looking at all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pawl_lock::{
    BackendToken, HoldId, Instant, Owner,
    backend::{
        Abandoned, AcquireRequest, Acquired, Busy, Granted, ReleaseRequest, Released, RenewRequest,
        Renewed, Wanted,
    },
    lease::{Mode, Order},
    slot::{Answer, Call},
};

/// What the server keeps of its one key.
#[derive(Debug, Default)]
pub(crate) struct Server {
    holds: BTreeMap<HoldId, Hold>,
    places: BTreeMap<HoldId, Place>,
    abandoned: BTreeSet<HoldId>,
    quiet_until: Instant,
    last_token: u64,
}

#[derive(Debug)]
struct Hold {
    mode: Mode,
    token: u64,
    until: Instant,
    lock_delay: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    since: Instant,
    until: Instant,
    mode: Mode,
}

/// What the server tells sidecars on its own.
#[derive(Debug)]
pub(crate) enum Tell {
    /// To the holders: somebody waits.
    Wanted(HoldId, Wanted),
    /// To a waiter: it may be its turn.
    Turn(HoldId),
}

impl Server {
    /// Lets what is over at `now` go.
    pub(crate) fn expire(&mut self, now: Instant) {
        let quiet = &mut self.quiet_until;
        self.holds.retain(|_, hold| {
            let is_alive = now < hold.until;
            if !is_alive && !hold.lock_delay.is_zero() {
                *quiet = (*quiet).max(hold.until.saturating_add(hold.lock_delay));
            }
            is_alive
        });
        self.places.retain(|_, place| now < place.until);
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.places.is_empty()
    }

    /// Does what a call asks for.
    pub(crate) fn apply(&mut self, now: Instant, call: &Call, tells: &mut Vec<Tell>) -> Answer {
        self.expire(now);
        match call {
            Call::Acquire(request) => Answer::Acquire(Ok(self.acquire(now, request, tells))),
            Call::Renew(request) => Answer::Renew(Ok(self.renew(now, request))),
            Call::Release(request) => Answer::Release(Ok(self.release(now, request, tells))),
            Call::Abandon(request) => {
                self.abandoned.insert(request.hold);
                self.holds.remove(&request.hold);
                self.places.remove(&request.hold);
                self.tell_turn(tells);
                Answer::Abandon(Ok(Abandoned::Settled))
            }
        }
    }

    fn acquire(
        &mut self,
        now: Instant,
        request: &AcquireRequest,
        tells: &mut Vec<Tell>,
    ) -> Acquired {
        let AcquireRequest {
            key: _,
            hold,
            mode,
            ttl,
            order,
            place,
            lock_delay,
            owner: _,
        } = request;
        let until = now.saturating_add(ttl.as_duration());
        if let Some(held) = self.holds.get_mut(hold) {
            held.until = held.until.max(until);
            let token = held.token;
            return self.granted(now, *hold, *mode, token);
        }
        if self.abandoned.contains(hold) {
            return Acquired::Busy(Busy::default());
        }
        let since = place.map(|place| now.saturating_sub(place.age));
        let is_held = self
            .holds
            .values()
            .any(|other| !other.mode.is_compatible(*mode));
        let is_behind = *order == Order::Fifo
            && self.places.iter().any(|(id, other)| {
                id != hold
                    && since.is_none_or(|since| (other.since, id) < (since, hold))
                    && !(other.mode.is_compatible(*mode) && is_head_shared(&self.places, other))
            });
        if !is_held && !is_behind && now >= self.quiet_until {
            self.places.remove(hold);
            self.last_token += 1;
            let token = self.last_token;
            self.holds.insert(
                *hold,
                Hold {
                    mode: *mode,
                    token,
                    until,
                    lock_delay: *lock_delay,
                },
            );
            self.tell_turn(tells);
            return self.granted(now, *hold, *mode, token);
        }
        match place {
            None => {
                self.places.remove(hold);
            }
            Some(place) => {
                let since = now.saturating_sub(place.age);
                let until = now.saturating_add(place.keep);
                self.places.insert(
                    *hold,
                    Place {
                        since,
                        until,
                        mode: *mode,
                    },
                );
                let wanted = Wanted {
                    mode: *mode,
                    age: place.age,
                };
                tells.extend(
                    self.holds
                        .keys()
                        .map(|holder| Tell::Wanted(*holder, wanted)),
                );
            }
        }
        Acquired::Busy(Busy {
            holder: None,
            ahead: None,
            retry_in: None,
        })
    }

    fn granted(&self, now: Instant, hold: HoldId, mode: Mode, token: u64) -> Acquired {
        let token = BackendToken::try_new(token).expect("a handful of tokens");
        Acquired::Granted(Granted {
            token,
            session: 0,
            wanted: self.wanted(now, hold, mode),
        })
    }

    fn wanted(&self, now: Instant, hold: HoldId, mode: Mode) -> Option<Wanted> {
        let in_the_way = self
            .places
            .iter()
            .filter(|(id, place)| **id != hold && !place.mode.is_compatible(mode));
        let (_, oldest) = in_the_way.min_by_key(|(id, place)| (place.since, **id))?;
        Some(Wanted {
            mode: oldest.mode,
            age: now.saturating_since(oldest.since),
        })
    }

    fn renew(&mut self, now: Instant, request: &RenewRequest) -> Renewed {
        match self.holds.get_mut(&request.hold) {
            None => Renewed::NotOwner,
            Some(held) => {
                held.until = held
                    .until
                    .max(now.saturating_add(request.ttl.as_duration()));
                let mode = held.mode;
                Renewed::Extended {
                    wanted: self.wanted(now, request.hold, mode),
                }
            }
        }
    }

    fn release(
        &mut self,
        now: Instant,
        request: &ReleaseRequest,
        tells: &mut Vec<Tell>,
    ) -> Released {
        let was_owner = self.holds.remove(&request.hold).is_some();
        let next = request
            .next
            .as_ref()
            .map(|next| self.acquire(now, next, tells));
        self.tell_turn(tells);
        Released { was_owner, next }
    }

    fn tell_turn(&self, tells: &mut Vec<Tell>) {
        let Some(head) = self.places.values().map(|place| place.since).min() else {
            return;
        };
        let shared_head = self
            .places
            .values()
            .any(|place| place.since == head && place.mode == Mode::Shared);
        for (id, place) in &self.places {
            if place.since == head || (shared_head && place.mode == Mode::Shared) {
                tells.push(Tell::Turn(*id));
            }
        }
    }
}

/// Whether everything before `place` and itself is shared, so that another shared one need not wait for it.
fn is_head_shared(places: &BTreeMap<HoldId, Place>, place: &Place) -> bool {
    places
        .values()
        .filter(|other| other.since <= place.since)
        .all(|other| other.mode == Mode::Shared)
}

/// The name that every waiter gives.
pub(crate) fn owner() -> Owner {
    Owner::try_new("test").expect("a name")
}
