//! The engine's state, and the loop that gives events to slots and does what they answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use futures::stream::FuturesUnordered;
use pawl_kit::clock::Clock;
use pawl_lock::{
    BackendError, Deadline, Instant, LeaseRef, Owner, PolicyName,
    slot::{Action, Event, LeaseChange, RenewId, RenewRefusal, WaiterId},
};
use tokio::sync::oneshot;

use super::{
    LeaseId, Limits,
    acquisition::Acquisition,
    arena::{Arena, Id},
    call::{self, CallFuture},
    ended::{End, Ended},
    mailbox::Bell,
    policy::Policy,
    registry::Lease,
    service::Service,
    slots::Entry,
};

/// What every part of the engine needs and nothing changes.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) clock: Clock,
    pub(super) identity: Owner,
    /// Random, so that hold ids of two processes never meet.
    pub(super) process: u64,
    pub(super) limits: Limits,
    pub(super) bell: Arc<Bell>,
}

/// The engine's state. Methods take `now`, which their caller read from the clock after whatever it waited for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) fixed: Fixed,
    pub(super) policies: BTreeMap<PolicyName, Rc<Policy>>,
    pub(super) slots: Arena<Entry>,
    pub(super) leases: HashMap<LeaseId, Lease>,
    /// Whose the slots' leases are. One that is not here has no owner any more.
    pub(super) holdings: HashMap<(Id, LeaseRef), Holding>,
    pub(super) ended: Ended,
    pub(super) acquisitions: HashMap<WaiterId, Acquisition>,
    /// Of an acquisition over several keys that waits for a later one: the slot's waiter to the acquisition's number.
    pub(super) aliases: HashMap<WaiterId, WaiterId>,
    pub(super) renewals: HashMap<RenewId, Renewal>,
    pub(super) confirmations: HashMap<(Id, LeaseRef), Confirmation>,
    pub(super) calls: FuturesUnordered<CallFuture>,
    pub(super) timers: BTreeSet<(Instant, Due)>,
    /// Services whose keeper is to be started by the engine's task.
    pub(super) opened: Vec<Rc<Service>>,
    /// Policies whose service lost its last slot and is to be closed.
    pub(super) emptied: Vec<PolicyName>,
    pub(super) is_draining: bool,
    pub(super) is_stopped: bool,
    /// Slots that lost their last lease or waiter and may be dropped.
    pub(super) resting: Vec<Id>,
    pub(super) todo: VecDeque<(Id, Event)>,
    actions: Vec<Action>,
    pub(super) numbers: Numbers,
}

/// Whose a slot's lease is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holding {
    /// An application's.
    Lease(LeaseId),
    /// An acquisition's that still waits for other keys.
    Taken(WaiterId),
}

/// A renewal that a caller asked for.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) lease: LeaseId,
    pub(super) answer: oneshot::Sender<Result<Deadline, RenewRefusal>>,
}

/// Where a release that asked for it is confirmed.
pub(super) type Confirmation = oneshot::Sender<Result<(), Arc<BackendError>>>;

/// What is due at an instant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    /// A slot's tick.
    Slot(Id),
    /// Keys that were taken by an acquisition are renewed while others are waited for.
    Taken(WaiterId),
    /// A policy's old backend had time enough.
    Switch(PolicyName),
    /// The leases had time enough: end them.
    Drain,
    /// The backends had time enough: end without them.
    Stop,
}

/// The next of each kind of number; none is used twice.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    waiter: u64,
    renew: u64,
    pub(super) slot: u32,
}

impl State {
    pub(super) fn new(fixed: Fixed) -> Self {
        Self {
            fixed,
            policies: BTreeMap::new(),
            slots: Arena::new(),
            leases: HashMap::new(),
            holdings: HashMap::new(),
            ended: Ended::default(),
            acquisitions: HashMap::new(),
            aliases: HashMap::new(),
            renewals: HashMap::new(),
            confirmations: HashMap::new(),
            calls: FuturesUnordered::new(),
            timers: BTreeSet::new(),
            opened: Vec::new(),
            emptied: Vec::new(),
            is_draining: false,
            is_stopped: false,
            resting: Vec::new(),
            todo: VecDeque::new(),
            actions: Vec::new(),
            numbers: Numbers::default(),
        }
    }

    pub(super) fn next_waiter(&mut self) -> WaiterId {
        self.numbers.waiter += 1;
        WaiterId(self.numbers.waiter)
    }

    pub(super) fn next_renewal(&mut self) -> RenewId {
        self.numbers.renew += 1;
        RenewId(self.numbers.renew)
    }

    /// Puts an event on the list that [`State::settle`] works off.
    pub(super) fn push(&mut self, slot: Id, event: Event) {
        self.todo.push_back((slot, event));
    }

    /// Gives the listed events to their slots and does what they answer, until nothing is left to do. Each event leads
    /// to a bounded number of others, so this ends.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            let Some((id, event)) = self.todo.pop_front() else {
                let Some(id) = self.resting.pop() else {
                    return;
                };
                self.tidy(id);
                continue;
            };
            let mut actions = std::mem::take(&mut self.actions);
            if let Some(entry) = self.slots.get_mut(id) {
                entry.slot.on(now, event, &mut actions);
            }
            for action in actions.drain(..) {
                self.act(now, id, action);
            }
            self.actions = actions;
            self.tidy(id);
        }
    }

    fn act(&mut self, now: Instant, slot: Id, action: Action) {
        match action {
            Action::Call { id, call, timeout } => self.call(now, slot, (id, call, timeout)),
            Action::Grant { waiter, grant } => self.granted(now, slot, waiter, &grant),
            Action::Refuse { waiter, refusal } => self.refused(slot, waiter, refusal),
            Action::RenewAnswer { id, result } => {
                if let Some(renewal) = self.renewals.remove(&id) {
                    if let Some(lease) = self.leases.get_mut(&renewal.lease) {
                        lease.renewals = lease.renewals.saturating_sub(1);
                    }
                    // The caller may be gone; its renewal stands.
                    let _ = renewal.answer.send(result);
                }
            }
            Action::Lease { lease, change } => self.changed(now, slot, lease, change),
            Action::Confirmed { lease, result } => {
                if let Some(confirmation) = self.confirmations.remove(&(slot, lease)) {
                    // The caller may be gone; its release stands.
                    let _ = confirmation.send(result);
                }
            }
        }
    }

    /// Starts a call. One that ends at once is answered in this same step, without a task or a timer.
    fn call(&mut self, now: Instant, slot: Id, call: CallParts) {
        let Some(entry) = self.slots.get(slot) else {
            return;
        };
        let service = Rc::clone(&entry.service);
        let mut call = call::make(self.fixed.clock.clone(), service, slot, call, now);
        match call::poll_once(&mut call) {
            Poll::Ready(answered) => self.answered(now, answered),
            Poll::Pending => {
                self.calls.push(call);
                self.fixed.bell.engine.wake();
            }
        }
    }

    /// Takes the answer of a call.
    pub(super) fn answered(&mut self, now: Instant, answered: call::Answered) {
        answered.count(now);
        let call::Answered {
            slot, call, answer, ..
        } = answered;
        self.push(slot, Event::Answer { call, answer });
    }

    fn changed(&mut self, now: Instant, slot: Id, lease: LeaseRef, change: LeaseChange) {
        match (self.holdings.get(&(slot, lease)).copied(), change) {
            (Some(Holding::Lease(id)), LeaseChange::Lost(reason)) => {
                self.lost(now, id, (slot, lease), reason);
            }
            (Some(Holding::Lease(id)), LeaseChange::Renewed { .. } | LeaseChange::Uncertain) => {
                self.tell(now, id);
            }
            (Some(Holding::Taken(acquisition)), LeaseChange::Lost(reason)) => {
                self.taken_was_lost(acquisition, (slot, lease), reason);
            }
            (Some(Holding::Taken(_)), LeaseChange::Renewed { .. } | LeaseChange::Uncertain)
            | (None, _) => {}
        }
    }

    /// Sets a timer; wakes the engine's task if it sleeps for longer.
    pub(super) fn at(&mut self, at: Instant, due: Due) {
        let timer = (at, due);
        if self.timers.first().is_none_or(|first| timer < *first) {
            self.fixed.bell.engine.wake();
        }
        self.timers.insert(timer);
    }

    /// Does what is due. The caller settles.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, due)) = self.timers.pop_first() else {
                return;
            };
            match due {
                Due::Slot(id) => {
                    if let Some(entry) = self.slots.get_mut(id) {
                        entry.scheduled = None;
                        self.push(id, Event::Tick);
                    }
                }
                Due::Taken(acquisition) => self.keep_taken(now, acquisition),
                Due::Switch(policy) => self.end_switch(now, &policy),
                Due::Drain => self.end_leases(),
                Due::Stop => self.is_stopped = true,
            }
        }
    }

    /// Ends a lease in the books: it is remembered, told and counted. What its slots must hear is the caller's.
    pub(super) fn close(&mut self, now: Instant, id: LeaseId, end: End) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.ended.add(now, id, end);
        lease.tell_end(end);
        let lost = match end {
            End::Lost(reason) => Some(reason),
            End::Released => None,
        };
        let held_for = now.saturating_since(lease.granted);
        lease.service.metrics.ended(held_for, lost);
        Some(lease)
    }
}

type CallParts = (
    pawl_lock::slot::CallId,
    pawl_lock::slot::Call,
    std::time::Duration,
);
