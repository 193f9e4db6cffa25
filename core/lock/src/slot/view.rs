//! A slot as others see it.

use super::{Slot, SlotView, event::WaiterId, leases::Lease, phase::Phase};
use crate::{
    lease::{LeaseRef, LeaseState, LeaseView, LossReason},
    time::{Deadline, Instant},
};

impl Slot {
    /// A lease as it is at `now`; nothing if it is not, or no longer, this slot's. Lost and released leases are forgotten once
    /// their end was told: the registry remembers them.
    pub fn lease(&self, now: Instant, lease: LeaseRef) -> Option<LeaseView> {
        let now = self.latest.max(now);
        let Phase::Holding(hold) = &self.phase else {
            return None;
        };
        let lease = self.leases.get(lease)?;
        Some(view(now, lease, hold.deadline, hold.is_uncertain))
    }

    /// What the slot is doing at `now`.
    pub fn view(&self, now: Instant) -> SlotView {
        let now = self.latest.max(now);
        let (leases, is_held) = match &self.phase {
            Phase::Holding(hold) => {
                let leases = self.leases.iter();
                let leases = leases
                    .map(|lease| (lease.id, view(now, lease, hold.deadline, hold.is_uncertain)));
                (leases.collect(), !hold.deadline.is_over(now))
            }
            _ => (Vec::new(), false),
        };
        SlotView {
            leases,
            waiters: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            is_held,
        }
    }

    /// How many waiters are ahead of this one, local and (as far as known) remote; nothing if it does not wait.
    pub fn ahead(&self, waiter: WaiterId) -> Option<u32> {
        let local = u32::try_from(self.queue.position(waiter)?).unwrap_or(u32::MAX);
        let remote = match &self.phase {
            Phase::Waiting { ahead, .. } => ahead.unwrap_or(0),
            _ => 0,
        };
        Some(local.saturating_add(remote))
    }
}

/// Computed against the clock each time: nothing remembers that a lease is held.
fn view(now: Instant, lease: &Lease, hold: Deadline, is_uncertain: bool) -> LeaseView {
    let state = match lease.over(now) {
        Some(reason) => LeaseState::Lost(reason),
        None if hold.is_over(now) => LeaseState::Lost(LossReason::Expired),
        None if is_uncertain => LeaseState::Uncertain,
        None => LeaseState::Held,
    };
    LeaseView {
        state,
        token: lease.token,
        mode: lease.mode,
        ttl: lease.ttl,
        deadline: lease.deadline(now, hold),
        granted: lease.granted,
    }
}
