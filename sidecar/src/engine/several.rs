//! Leases over several keys: taken one after another in the order of their bytes, all or none.

use std::rc::Rc;

use pawl_lock::{
    Instant, Key, LeaseRef, LossReason,
    lease::Renew,
    slot::{Event, WaiterId},
};

use super::{
    EngineError,
    acquisition::RETRY,
    arena::Id,
    registry::{Part, Parts},
    state::{Due, State},
};

/// Of an acquisition over several keys those before and after the one that is waited for.
#[derive(Debug, Default)]
pub(super) struct Several {
    /// Still to be taken, the next one last.
    pub(super) rest: Vec<Key>,
    pub(super) taken: Vec<Part>,
}

impl State {
    /// Goes on to the next of several keys.
    pub(super) fn ask_next(&mut self, id: WaiterId, key: Key) {
        let Some(acquisition) = self.acquisitions.get(&id) else {
            return;
        };
        let service = Rc::clone(&acquisition.service);
        match self.place(&service, key) {
            Ok(slot) => {
                let waiter = self.next_waiter();
                if let Some(acquisition) = self.acquisitions.get_mut(&id) {
                    acquisition.at = slot;
                    acquisition.waiter = waiter;
                }
                self.aliases.insert(waiter, id);
                self.ask_slot(id);
            }
            Err(error) => self.fail(id, error),
        }
    }

    pub(super) fn complete_several(&mut self, now: Instant, id: WaiterId) {
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        let Some(several) = acquisition.several.take() else {
            return;
        };
        if !acquisition.attached {
            for part in &several.taken {
                let lease = part.lease;
                self.push(
                    part.slot,
                    Event::Attach {
                        lease,
                        is_attached: false,
                    },
                );
            }
        }
        self.complete(now, id, Parts::Several(several.taken.into()));
    }

    pub(super) fn taken_was_lost(
        &mut self,
        id: WaiterId,
        (slot, lease): (Id, LeaseRef),
        reason: LossReason,
    ) {
        self.unhold(slot, lease);
        let Some(acquisition) = self.acquisitions.get_mut(&id) else {
            return;
        };
        let retry_after = RETRY;
        let taken = acquisition
            .several
            .as_mut()
            .map(|several| &mut several.taken);
        let lost = taken.and_then(|taken| {
            let index = taken.iter().position(|part| part.is(slot, lease))?;
            Some(taken.swap_remove(index))
        });
        if let Some(Part { key, .. }) = lost {
            self.fail(
                id,
                EngineError::LostWhileAcquiring {
                    key,
                    reason,
                    retry_after,
                },
            );
        }
    }

    pub(super) fn give_back_taken(&mut self, id: WaiterId) {
        let several = self
            .acquisitions
            .get_mut(&id)
            .and_then(|acquisition| acquisition.several.take());
        for part in several.map(|several| several.taken).unwrap_or_default() {
            self.push(
                part.slot,
                Event::Release {
                    lease: part.lease,
                    confirm: false,
                },
            );
            self.unhold(part.slot, part.lease);
        }
    }

    /// Renews the taken keys of an acquisition whose owner is to renew them later: until all keys are there, it is
    /// this engine that must keep them.
    pub(super) fn keep_taken(&mut self, now: Instant, id: WaiterId) {
        let Some(acquisition) = self.acquisitions.get(&id) else {
            return;
        };
        let Some(several) = &acquisition.several else {
            return;
        };
        let taken: Vec<(Id, LeaseRef)> = several
            .taken
            .iter()
            .map(|part| (part.slot, part.lease))
            .collect();
        for (slot, lease) in taken {
            // Nobody waits for the answer: a loss is told by itself.
            let renew = Event::Renew {
                lease,
                id: self.next_renewal(),
                ttl: None,
            };
            self.push(slot, renew);
        }
        self.keep_taken_later(now, id);
    }

    pub(super) fn keep_taken_later(&mut self, now: Instant, id: WaiterId) {
        if let Some(acquisition) = self.acquisitions.get(&id)
            && acquisition.renew == Renew::Manual
        {
            let at = now.saturating_add(acquisition.ttl.as_duration() / 3);
            self.at(at, Due::Taken(id));
        }
    }
}

impl Part {
    fn is(&self, slot: Id, lease: LeaseRef) -> bool {
        self.slot == slot && self.lease == lease
    }
}
