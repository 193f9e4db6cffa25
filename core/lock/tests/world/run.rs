//! A world of sidecars, a network that loses and delays, and the reference lock; and what must hold in it at every instant.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use pawl_lock::{
    BackendError, HoldId, Instant, Key, LeaseRef,
    lease::{Mode, Order},
    name::HoldIds,
    slot::{Action, Answer, Call, CallId, Event, LeaseChange, RenewId, Slot, Terms, WaiterId},
};

use crate::{
    plan::{Do, Fate},
    server::{Server, Tell},
};

#[derive(Debug)]
pub(crate) enum Happening {
    Do(Do),
    Arrive {
        sidecar: usize,
        call: CallId,
        what: Call,
        fate: Option<Fate>,
    },
    Answered {
        sidecar: usize,
        call: CallId,
        answer: Answer,
    },
    Timeout {
        sidecar: usize,
        call: CallId,
    },
    Told {
        sidecar: usize,
        event: Event,
    },
    Wake {
        sidecar: usize,
    },
    Resume {
        sidecar: usize,
    },
}

pub(crate) struct Sidecar {
    pub(crate) slot: Slot,
    pub(crate) paused_until: Instant,
    backlog: Vec<Event>,
    pub(crate) fate: Option<Fate>,
    calls: BTreeMap<CallId, Call>,
    wake: Option<Instant>,
    pub(crate) renewals: BTreeSet<RenewId>,
    pub(crate) is_draining: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) sidecar: usize,
    pub(crate) since: Instant,
    pub(crate) mode: Mode,
    pub(crate) is_patient: bool,
}

/// The world, and what is known of it.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) order: Order,
    pub(crate) server: Server,
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) happenings: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(crate) pending: BTreeMap<u64, Happening>,
    pub(crate) sequence: u64,
    pub(crate) waiters: BTreeMap<WaiterId, Waiting>,
    /// Callers that are gone: what they get by a race is the registry's to give back.
    pub(crate) left: BTreeSet<WaiterId>,
    /// Callers that the slot knows to be gone: they get nothing.
    pub(crate) gone: BTreeSet<WaiterId>,
    pub(crate) made: u64,
    pub(crate) leases: BTreeMap<(usize, LeaseRef), Mode>,
    pub(crate) lost: BTreeSet<(usize, LeaseRef)>,
    pub(crate) tokens: BTreeMap<u64, Mode>,
    /// Whether the order of service is strict: nothing fails, and all ask for exclusive mode (a sidecar has one place in
    /// the queue, that of its first waiter, so behind a shared one of its own an exclusive waiter has none yet).
    pub(crate) is_strict: bool,
    pub(crate) grants: u32,
    pub(crate) refusals: u32,
    pub(crate) losses: u32,
    pub(crate) unknowns: u32,
}

pub(crate) const LATENCY: Duration = Duration::from_millis(2);

impl World {
    pub(crate) fn new(sidecars: usize, terms: Terms) -> Self {
        let order = terms.order;
        let terms = Arc::new(terms);
        let sidecars = (0..sidecars).map(|number| Sidecar {
            slot: Slot::new(
                Key::try_new("key").expect("a key"),
                Arc::clone(&terms),
                HoldIds::new(number as u64 + 1, 1),
            ),
            paused_until: Instant::default(),
            backlog: Vec::new(),
            fate: None,
            calls: BTreeMap::new(),
            wake: None,
            renewals: BTreeSet::new(),
            is_draining: false,
        });
        Self {
            now: Instant::from_nanos(1_000_000_000_000),
            order,
            server: Server::default(),
            sidecars: sidecars.collect(),
            happenings: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            waiters: BTreeMap::new(),
            left: BTreeSet::new(),
            gone: BTreeSet::new(),
            made: 0,
            leases: BTreeMap::new(),
            lost: BTreeSet::new(),
            tokens: BTreeMap::new(),
            is_strict: true,
            grants: 0,
            refusals: 0,
            losses: 0,
            unknowns: 0,
        }
    }

    pub(crate) fn at(&mut self, after: Duration, what: Happening) {
        self.sequence += 1;
        self.happenings
            .push(Reverse((self.now.saturating_add(after), self.sequence)));
        self.pending.insert(self.sequence, what);
    }

    /// Plays a plan, then lets the world come to rest, and checks all along.
    pub(crate) fn play(&mut self, plan: Vec<(u64, Do)>) {
        let mut after = Duration::ZERO;
        self.is_strict = plan.iter().all(|(_, what)| {
            !matches!(
                what,
                Do::Acquire { shared: true, .. }
                    | Do::Pause { .. }
                    | Do::Fate { .. }
                    | Do::Drain { .. }
                    | Do::Revoke { .. }
            )
        });
        for (ms, what) in plan {
            after += Duration::from_millis(ms);
            self.at(after, Happening::Do(what));
        }
        let end = self.now.saturating_add(after);
        self.run_until(end);
        // From here nobody comes any more: the faults are over, and whoever holds lets go.
        self.run_until(end.saturating_add(Duration::from_secs(1)));
        for _ in 0..200 {
            let held: Vec<_> = self.leases.keys().copied().collect();
            for (sidecar, lease) in held {
                self.leases.remove(&(sidecar, lease));
                self.give(
                    sidecar,
                    Event::Release {
                        lease,
                        confirm: false,
                    },
                );
            }
            let next = self.now.saturating_add(Duration::from_secs(1));
            self.run_until(next);
        }
        assert!(
            self.waiters.is_empty(),
            "nobody waits for ever: {:?}",
            self.waiters
        );
        for (number, sidecar) in self.sidecars.iter().enumerate() {
            assert!(
                sidecar.slot.is_idle(),
                "sidecar {number} comes to rest: {:?}",
                sidecar.slot
            );
            assert_eq!(
                sidecar.slot.next_wake(),
                None,
                "a slot at rest needs no clock"
            );
            assert!(sidecar.renewals.is_empty(), "each renewal is answered");
        }
        self.server.expire(self.now);
        assert!(
            self.server.is_empty(),
            "nothing stays at the backend: {:?}",
            self.server
        );
    }

    fn run_until(&mut self, end: Instant) {
        let mut steps = 0;
        while let Some(Reverse((at, sequence))) = self.happenings.peek().copied() {
            if at > end {
                break;
            }
            steps += 1;
            assert!(
                steps < 5_000,
                "the world does not spin: {:?}",
                self.sidecars
                    .iter()
                    .map(|sidecar| &sidecar.slot)
                    .collect::<Vec<_>>()
            );
            self.happenings.pop();
            self.now = self.now.max(at);
            let what = self.pending.remove(&sequence).expect("it was put there");
            self.happen(what);
            self.check();
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Do(what) => self.act(what),
            Happening::Arrive {
                sidecar,
                call,
                what,
                fate,
            } => self.serve(sidecar, call, &what, fate),
            Happening::Answered {
                sidecar,
                call,
                answer,
            } => {
                if self.sidecars[sidecar].calls.remove(&call).is_some() {
                    self.give(sidecar, Event::Answer { call, answer });
                }
            }
            Happening::Timeout { sidecar, call } => {
                if let Some(what) = self.sidecars[sidecar].calls.remove(&call) {
                    self.unknowns += 1;
                    let answer = failed(&what, BackendError::timeout());
                    self.give(sidecar, Event::Answer { call, answer });
                }
            }
            Happening::Told { sidecar, event } => self.give(sidecar, event),
            Happening::Wake { sidecar } => {
                if self.sidecars[sidecar]
                    .wake
                    .is_some_and(|wake| wake <= self.now)
                {
                    self.sidecars[sidecar].wake = None;
                    self.give(sidecar, Event::Tick);
                }
            }
            Happening::Resume { sidecar } => {
                if self.sidecars[sidecar].paused_until <= self.now {
                    // What happened while it slept comes in its order, before anything new.
                    for event in std::mem::take(&mut self.sidecars[sidecar].backlog) {
                        self.give(sidecar, event);
                    }
                }
            }
        }
    }

    /// A request reaches the server.
    fn serve(&mut self, sidecar: usize, call: CallId, what: &Call, fate: Option<Fate>) {
        let mut tells = Vec::new();
        let answer = self.server.apply(self.now, what, &mut tells);
        for tell in tells {
            let (hold, event) = match tell {
                Tell::Wanted(hold, wanted) => (hold, Event::Wanted(wanted)),
                Tell::Turn(hold) => (hold, Event::Turn),
            };
            self.at(
                LATENCY,
                Happening::Told {
                    sidecar: sidecar_of(hold),
                    event,
                },
            );
        }
        let delay = match fate {
            Some(Fate::AnswerLost) => return,
            Some(Fate::AnswerLate(ms)) => Duration::from_millis(ms),
            _ => LATENCY,
        };
        self.at(
            delay,
            Happening::Answered {
                sidecar,
                call,
                answer,
            },
        );
    }

    /// Whether a sidecar hears of events only later: it sleeps, or its pause is over at this instant and what came
    /// meanwhile is not given to it yet.
    pub(crate) fn is_deaf(&self, number: usize) -> bool {
        let sidecar = &self.sidecars[number];
        self.now < sidecar.paused_until || !sidecar.backlog.is_empty()
    }

    /// Gives a sidecar an event, now or when it wakes, and does what its slot asks for.
    pub(crate) fn give(&mut self, number: usize, event: Event) {
        let now = self.now;
        let is_deaf = self.is_deaf(number);
        let sidecar = &mut self.sidecars[number];
        if is_deaf {
            sidecar.backlog.push(event);
            return;
        }
        sidecar.is_draining |= matches!(event, Event::Drain(_));
        let mut actions = Vec::new();
        sidecar.slot.on(now, event, &mut actions);
        for action in actions {
            self.carry_out(number, action);
        }
        let sidecar = &mut self.sidecars[number];
        let wake = sidecar.slot.next_wake();
        if wake != sidecar.wake {
            sidecar.wake = wake;
            if let Some(wake) = wake {
                let after = wake.saturating_since(now).max(Duration::from_micros(1));
                self.at(after, Happening::Wake { sidecar: number });
            }
        }
    }

    fn carry_out(&mut self, number: usize, action: Action) {
        match action {
            Action::Call { id, call, timeout } => {
                let sidecar = &mut self.sidecars[number];
                assert!(sidecar.calls.is_empty(), "one call at a time");
                sidecar.calls.insert(id, call.clone());
                let fate = sidecar.fate.take();
                self.at(
                    timeout,
                    Happening::Timeout {
                        sidecar: number,
                        call: id,
                    },
                );
                let after = match fate {
                    Some(Fate::RequestLost) => return,
                    Some(Fate::Refused) => {
                        let answer = refused(&call);
                        self.at(
                            LATENCY,
                            Happening::Answered {
                                sidecar: number,
                                call: id,
                                answer,
                            },
                        );
                        return;
                    }
                    Some(Fate::RequestLate(ms)) => Duration::from_millis(ms),
                    _ => LATENCY,
                };
                self.at(
                    after,
                    Happening::Arrive {
                        sidecar: number,
                        call: id,
                        what: call,
                        fate,
                    },
                );
            }
            Action::Grant { waiter, grant } => self.granted(number, waiter, &grant),
            Action::Refuse { waiter, .. } => {
                self.refusals += 1;
                let is_known = self.waiters.remove(&waiter).is_some() || self.left.remove(&waiter);
                assert!(is_known, "each waiter is answered once");
            }
            Action::RenewAnswer { id, result } => {
                assert!(
                    self.sidecars[number].renewals.remove(&id),
                    "each renewal is answered once"
                );
                if let Ok(deadline) = result {
                    assert!(
                        !deadline.is_over(self.now),
                        "a renewal reaches into the future"
                    );
                }
            }
            Action::Lease { lease, change } => match change {
                LeaseChange::Lost(_) => {
                    self.losses += 1;
                    assert!(self.lost.insert((number, lease)), "lost once");
                    self.leases.remove(&(number, lease));
                }
                LeaseChange::Renewed { .. } | LeaseChange::Uncertain => {
                    assert!(
                        !self.lost.contains(&(number, lease)),
                        "lost never becomes held again"
                    );
                }
            },
            Action::Confirmed { .. } => {}
        }
    }
}

fn sidecar_of(hold: HoldId) -> usize {
    usize::try_from(hold.bits() >> 64).expect("a small number") - 1
}

fn refused(call: &Call) -> Answer {
    use pawl_lock::backend::{Category, Outcome};
    let error = BackendError::new(
        Category::Unavailable,
        Outcome::NotApplied,
        "the server is loading",
    );
    failed(call, error)
}

fn failed(call: &Call, error: BackendError) -> Answer {
    match call {
        Call::Acquire(_) => Answer::Acquire(Err(error)),
        Call::Renew(_) => Answer::Renew(Err(error)),
        Call::Release(_) => Answer::Release(Err(error)),
        Call::Abandon(_) => Answer::Abandon(Err(error)),
    }
}
