//! The keys of one scope.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pawl_lock::{
    FencingToken, HoldId, Instant, Key,
    backend::{
        AcquireRequest, Acquired, FenceVerdict, Inspection, ReleaseRequest, Released, RenewRequest,
        Renewed,
    },
};

use super::{Ear, MAX_FENCED_KEYS, Told, entry::Entry};

/// How long it is remembered that a holder was lost: longer than any quiet time.
const LOST_KEPT: Duration = Duration::from_hours(1);
/// How many keys there may be before the first sweep.
const FIRST_SWEEP: usize = 1024;
/// How many emptied entries are kept for the next keys, so that a cold cycle need not allocate.
const MAX_SPARE: usize = 64;

pub(super) struct Space {
    keys: HashMap<Key, Entry>,
    spare: Vec<Entry>,
    fences: HashMap<Key, FencingToken>,
    epoch: (Instant, u64),
    /// At how many keys the idle ones are forgotten next: twice of what the last sweep left.
    sweep_at: usize,
}

impl Space {
    pub(super) fn new(epoch: (Instant, u64)) -> Self {
        Self {
            keys: HashMap::new(),
            spare: Vec::new(),
            fences: HashMap::new(),
            epoch,
            sweep_at: FIRST_SWEEP,
        }
    }

    pub(super) fn acquire(
        &mut self,
        now: Instant,
        request: &AcquireRequest,
        ear: &Arc<Ear>,
        told: &mut Told,
    ) -> Acquired {
        let clock_millis = self.clock_millis(now);
        self.entry(now, &request.key)
            .acquire(now, request, ear, clock_millis, told)
    }

    pub(super) fn renew(
        &mut self,
        now: Instant,
        request: &RenewRequest,
        ear: &Arc<Ear>,
        told: &mut Told,
    ) -> Renewed {
        let Some(entry) = self.keys.get_mut(&request.key) else {
            return Renewed::NotOwner;
        };
        let renewed = entry.renew(now, request, ear);
        if renewed == Renewed::NotOwner {
            entry.wake(&request.key, None, told);
        }
        renewed
    }

    pub(super) fn release(
        &mut self,
        now: Instant,
        request: &ReleaseRequest,
        ear: &Arc<Ear>,
        told: &mut Told,
    ) -> Released {
        let entry = self.keys.get_mut(&request.key);
        let was_owner = entry.is_some_and(|entry| entry.release(now, request.hold));
        let next = request
            .next
            .as_ref()
            .map(|next| self.acquire(now, next, ear, told));
        self.wake_or_forget(
            now,
            &request.key,
            request.next.as_ref().map(|next| next.hold),
            told,
        );
        Released { was_owner, next }
    }

    pub(super) fn abandon(&mut self, now: Instant, key: &Key, hold: HoldId, told: &mut Told) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.abandon(now, hold);
            self.wake_or_forget(now, key, None, told);
        }
    }

    pub(super) fn inspect(&mut self, now: Instant, key: &Key) -> Inspection {
        self.keys
            .get_mut(key)
            .map(|entry| entry.inspect(now))
            .unwrap_or_default()
    }

    /// Nothing if there is no room for another key.
    pub(super) fn fence(&mut self, key: &Key, token: FencingToken) -> Option<FenceVerdict> {
        if let Some(highest) = self.fences.get_mut(key) {
            if *highest > token {
                return Some(FenceVerdict::Stale { highest: *highest });
            }
            *highest = token;
        } else if self.fences.len() < MAX_FENCED_KEYS {
            self.fences.insert(key.clone(), token);
        } else {
            return None;
        }
        Some(FenceVerdict::Newest)
    }

    fn entry(&mut self, now: Instant, key: &Key) -> &mut Entry {
        if !self.keys.contains_key(key) {
            if self.keys.len() >= self.sweep_at {
                self.sweep(now);
            }
            let entry = self.spare.pop().unwrap_or_default();
            self.keys.insert(key.clone(), entry);
        }
        self.keys.get_mut(key).expect("it was inserted above")
    }

    fn wake_or_forget(&mut self, now: Instant, key: &Key, asking: Option<HoldId>, told: &mut Told) {
        let clock_millis = self.clock_millis(now);
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        entry.wake(key, asking, told);
        if entry.is_idle(now, clock_millis, LOST_KEPT)
            && let Some(mut entry) = self.keys.remove(key)
            && self.spare.len() < MAX_SPARE
        {
            entry.clear();
            self.spare.push(entry);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let clock_millis = self.clock_millis(now);
        self.keys
            .retain(|_, entry| !entry.is_idle(now, clock_millis, LOST_KEPT));
        self.sweep_at = FIRST_SWEEP.max(self.keys.len() * 2);
    }

    /// Milliseconds since 1970 as this clock has them: what a token is never below.
    fn clock_millis(&self, now: Instant) -> u64 {
        let (start, millis) = self.epoch;
        let passed = now.saturating_since(start).as_millis();
        millis.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
