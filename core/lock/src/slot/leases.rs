//! The leases that a hold serves.

use std::{sync::Arc, time::Duration};

use super::{event::Terms, queue::Waiter};
use crate::{
    lease::{LeaseRef, LossReason, Mode, Renew},
    name::Owner,
    time::{Deadline, Instant, Ttl},
    token::FencingToken,
};

/// A lease that is alive.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseRef,
    pub(super) token: FencingToken,
    pub(super) mode: Mode,
    pub(super) ttl: Ttl,
    pub(super) owner: Owner,
    pub(super) granted: Instant,
    /// The end of `maxHold`.
    cap: Instant,
    /// Until when its owner renewed it; nothing if the sidecar does.
    own: Option<Deadline>,
    is_attached: bool,
    last_sign: Instant,
    // The terms that it was granted or last renewed under.
    terms: Arc<Terms>,
}

impl Lease {
    pub(super) fn granted(
        now: Instant,
        id: LeaseRef,
        token: FencingToken,
        waiter: Waiter,
        terms: Arc<Terms>,
    ) -> Self {
        let Waiter {
            id: _,
            arrived: _,
            wait_until: _,
            max_hold,
            owner,
            ttl,
            mode,
            renew,
            is_attached,
        } = waiter;
        Self {
            id,
            token,
            mode,
            ttl,
            owner,
            granted: now,
            cap: now.saturating_add(max_hold),
            own: (renew == Renew::Manual).then(|| Deadline::after(now, ttl)),
            is_attached,
            last_sign: now,
            terms,
        }
    }

    /// When it ends and why, if the hold lasts.
    fn own_end(&self) -> (Instant, LossReason) {
        let mut end = (self.cap, LossReason::MaxHold);
        if let Some(own) = self.own
            && own.instant() < end.0
        {
            end = (own.instant(), LossReason::NotRenewed);
        }
        if let Some(idle) = self.idle_end()
            && idle < end.0
        {
            end = (idle, LossReason::Idle);
        }
        end
    }

    fn idle_end(&self) -> Option<Instant> {
        let limit = self
            .terms
            .idle
            .filter(|_| self.own.is_none() && !self.is_attached)?;
        Some(self.last_sign.saturating_add(limit))
    }

    /// Until when it may be believed at most: the hold may end sooner.
    pub(super) fn end(&self) -> Instant {
        self.own_end().0
    }

    /// Until when its owner may believe, as far as is known at `now`: a lease that the sidecar renews reaches a ttl ahead at the most,
    /// even where its hold reaches further.
    pub(super) fn deadline(&self, now: Instant, hold: Deadline) -> Deadline {
        let mut end = self.end().min(hold.instant());
        if self.own.is_none() {
            end = end.min(Deadline::after(now, self.ttl).instant());
        }
        Deadline::at(end)
    }

    /// Why it is over at `now`, if it is.
    pub(super) fn over(&self, now: Instant) -> Option<LossReason> {
        let (end, reason) = self.own_end();
        (now >= end).then_some(reason)
    }

    pub(super) fn sign_of_life(&mut self, now: Instant) {
        self.last_sign = now;
    }

    pub(super) fn attach(&mut self, now: Instant, is_attached: bool) {
        self.is_attached = is_attached;
        self.last_sign = now;
    }

    /// Its owner renews it: from here on the current terms hold.
    pub(super) fn renew(&mut self, now: Instant, ttl: Option<Ttl>, terms: Arc<Terms>) {
        self.ttl = ttl.unwrap_or(self.ttl);
        self.terms = terms;
        self.last_sign = now;
        if self.own.is_some() {
            self.own = Some(Deadline::after(now, self.ttl));
        }
    }

    /// The end of its quiet time when it ended without release at `now`.
    pub(super) fn lock_delay(&self) -> Duration {
        self.terms.lock_delay
    }
}

/// The leases of one hold; one, or several in shared mode.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases(Vec<Lease>);

impl Leases {
    pub(super) fn push(&mut self, lease: Lease) {
        self.0.push(lease);
    }

    pub(super) fn get(&self, id: LeaseRef) -> Option<&Lease> {
        self.0.iter().find(|lease| lease.id == id)
    }

    pub(super) fn get_mut(&mut self, id: LeaseRef) -> Option<&mut Lease> {
        self.0.iter_mut().find(|lease| lease.id == id)
    }

    pub(super) fn remove(&mut self, id: LeaseRef) -> Option<Lease> {
        let index = self.0.iter().position(|lease| lease.id == id)?;
        Some(self.0.swap_remove(index))
    }

    /// Takes out a lease that is over at `now`.
    pub(super) fn pop_over(&mut self, now: Instant) -> Option<(Lease, LossReason)> {
        let (index, reason) = self
            .0
            .iter()
            .enumerate()
            .find_map(|(index, lease)| Some((index, lease.over(now)?)))?;
        Some((self.0.swap_remove(index), reason))
    }

    pub(super) fn pop(&mut self) -> Option<Lease> {
        self.0.pop()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.0.iter()
    }

    /// When the next one is over, if the hold lasts.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.iter().map(Lease::end).min()
    }

    /// When the last one is over, if the hold lasts.
    pub(super) fn last_end(&self) -> Option<Instant> {
        self.0.iter().map(Lease::end).max()
    }

    pub(super) fn longest_ttl(&self) -> Option<Ttl> {
        self.0.iter().map(|lease| lease.ttl).max()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
