//! The slots in the books: who is in each, which is spare, which has nothing to do any more.

use std::{rc::Rc, sync::Arc, time::Duration};

use pawl_lock::{
    Instant, Key, LeaseRef, LossReason,
    backend::Wanted,
    lease::Mode,
    name::HoldIds,
    slot::{Event, Slot},
};

use super::{
    arena::Id,
    service::Service,
    state::{Due, Holding, State},
};

/// A slot and its place in the engine.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) service: Rc<Service>,
    /// Leases and taken keys.
    pub(super) leases: u32,
    pub(super) waiters: u32,
    /// When its tick is set; never later than it must be.
    pub(super) scheduled: Option<Instant>,
    /// Whether it is in [`Service::spare`].
    is_spare: bool,
}

impl State {
    /// Makes a slot for a key that has none.
    pub(super) fn add_slot(&mut self, service: &Rc<Service>, key: Key) -> Id {
        self.numbers.slot = self.numbers.slot.wrapping_add(1);
        let ids = HoldIds::new(self.fixed.process, self.numbers.slot);
        let terms = Arc::clone(&service.settings.borrow().terms);
        let id = self.slots.insert(Entry {
            slot: Slot::new(key.clone(), terms, ids),
            key: key.clone(),
            service: Rc::clone(service),
            leases: 0,
            waiters: 0,
            scheduled: None,
            is_spare: false,
        });
        service.slots.borrow_mut().insert(key, id);
        id
    }

    /// Counts a waiter in.
    pub(super) fn enter(&mut self, slot: Id) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.waiters += 1;
            let service = &entry.service;
            service.waiters.set(service.waiters.get() + 1);
            service.metrics.waiters.inc();
            if entry.leases + entry.waiters == 1 {
                service.active.set(service.active.get() + 1);
            }
        }
    }

    /// Counts a waiter out.
    pub(super) fn leave(&mut self, slot: Id) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.waiters -= 1;
            let service = &entry.service;
            service.waiters.set(service.waiters.get() - 1);
            service.metrics.waiters.dec();
            self.rest(slot);
        }
    }

    /// Says whose a slot's lease is, and counts it in if it was nobody's.
    pub(super) fn hold(&mut self, slot: Id, lease: LeaseRef, holding: Holding) {
        if self.holdings.insert((slot, lease), holding).is_some() {
            return;
        }
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.leases += 1;
            entry.service.metrics.held.inc();
            if entry.leases + entry.waiters == 1 {
                let active = &entry.service.active;
                active.set(active.get() + 1);
            }
        }
    }

    /// Counts a lease out; `false` if it was not in.
    pub(super) fn unhold(&mut self, slot: Id, lease: LeaseRef) -> bool {
        if self.holdings.remove(&(slot, lease)).is_none() {
            return false;
        }
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.leases -= 1;
            entry.service.metrics.held.dec();
            self.rest(slot);
        }
        true
    }

    /// Looks after a slot that may have lost its last lease or waiter: it is kept in mind as spare, or drained where
    /// nothing new is to come.
    fn rest(&mut self, slot: Id) {
        let Some(entry) = self.slots.get_mut(slot) else {
            return;
        };
        if entry.leases + entry.waiters > 0 {
            return;
        }
        self.resting.push(slot);
        let service = &entry.service;
        service.active.set(service.active.get() - 1);
        if self.is_draining {
            let drain = Event::Drain(LossReason::Draining);
            self.todo.push_back((slot, drain));
        } else if service.is_retiring.get() {
            let drain = Event::Drain(LossReason::PolicyRemoved);
            self.todo.push_back((slot, drain));
        } else if !entry.is_spare {
            entry.is_spare = true;
            service.spare.borrow_mut().push_back(slot);
        }
    }

    /// Lets go of the hold that has been spare for the longest time; `false` if there is none.
    pub(super) fn drop_spare(&mut self, service: &Service) -> bool {
        loop {
            let Some(slot) = service.spare.borrow_mut().pop_front() else {
                return false;
            };
            let Some(entry) = self.slots.get_mut(slot) else {
                continue;
            };
            entry.is_spare = false;
            if entry.leases + entry.waiters == 0 {
                // To a retained hold this is the same as another sidecar that wants the key: it ends at once.
                let wanted = Wanted {
                    mode: Mode::Exclusive,
                    age: Duration::ZERO,
                };
                self.push(slot, Event::Wanted(wanted));
                return true;
            }
        }
    }

    /// Drops a slot that has nothing to do, or sets its next tick. A tick that lies later than the set one is not
    /// moved: the early tick does no harm and finds the right instant.
    pub(super) fn tidy(&mut self, id: Id) {
        let Some(entry) = self.slots.get_mut(id) else {
            return;
        };
        if entry.leases + entry.waiters == 0 && entry.slot.is_idle() {
            self.drop_slot(id);
            return;
        }
        let Some(wake) = entry.slot.next_wake() else {
            return;
        };
        if entry.scheduled.is_some_and(|scheduled| scheduled <= wake) {
            return;
        }
        if let Some(late) = entry.scheduled.replace(wake) {
            self.timers.remove(&(late, Due::Slot(id)));
        }
        self.at(wake, Due::Slot(id));
    }

    fn drop_slot(&mut self, id: Id) {
        let Some(entry) = self.slots.remove(id) else {
            return;
        };
        if let Some(scheduled) = entry.scheduled {
            self.timers.remove(&(scheduled, Due::Slot(id)));
        }
        let service = &entry.service;
        let mut slots = service.slots.borrow_mut();
        slots.remove(&entry.key);
        if entry.is_spare {
            let mut spare = service.spare.borrow_mut();
            if spare.len() > 2 * slots.len() + 16 {
                spare.retain(|id| self.slots.get(*id).is_some());
            }
        }
        if slots.is_empty() && service.is_retiring.get() {
            self.emptied.push(service.settings().name.clone());
            self.fixed.bell.engine.wake();
        }
    }
}
