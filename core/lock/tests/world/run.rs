//! A world of sidecars, a network that loses and delays, and the reference lock; and what must hold in it at every instant.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use pawl_lock::{
    BackendError, HoldId, Instant, Key, LeaseRef, LeaseState, LossReason, Ttl,
    lease::{Mode, Order, Renew},
    name::HoldIds,
    slot::{
        Acquire, Action, Answer, Backoff, Call, CallId, Event, LeaseChange, RenewId, Slot, Terms,
        WaiterId,
    },
};

use crate::server::{Server, Tell, owner};

/// What happens from outside, `after` the previous one.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    Acquire {
        sidecar: usize,
        shared: bool,
        ttl_ms: u64,
        wait_ms: u64,
        manual: bool,
        max_hold_ms: u64,
    },
    Cancel {
        pick: usize,
    },
    Release {
        pick: usize,
        confirm: bool,
    },
    Renew {
        pick: usize,
        ttl_ms: Option<u64>,
    },
    Revoke {
        pick: usize,
    },
    Pause {
        sidecar: usize,
        ms: u64,
    },
    Fate {
        sidecar: usize,
        fate: Fate,
    },
    Drain {
        sidecar: usize,
    },
}

/// What happens to the next call of a sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    RequestLost,
    AnswerLost,
    RequestLate(u64),
    AnswerLate(u64),
    Refused,
}

#[derive(Debug)]
enum Happening {
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

struct Sidecar {
    slot: Slot,
    paused_until: Instant,
    backlog: Vec<Event>,
    fate: Option<Fate>,
    calls: BTreeMap<CallId, Call>,
    wake: Option<Instant>,
    renewals: BTreeSet<RenewId>,
    is_draining: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    sidecar: usize,
    since: Instant,
    mode: Mode,
    is_patient: bool,
}

/// The world, and what is known of it.
pub(crate) struct World {
    now: Instant,
    order: Order,
    server: Server,
    sidecars: Vec<Sidecar>,
    happenings: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: BTreeMap<u64, Happening>,
    sequence: u64,
    waiters: BTreeMap<WaiterId, Waiting>,
    /// Callers that are gone: what they get by a race is the registry's to give back.
    left: BTreeSet<WaiterId>,
    /// Callers that the slot knows to be gone: they get nothing.
    gone: BTreeSet<WaiterId>,
    made: u64,
    leases: BTreeMap<(usize, LeaseRef), Mode>,
    lost: BTreeSet<(usize, LeaseRef)>,
    tokens: BTreeMap<u64, Mode>,
    /// Whether the order of service is strict: nothing fails, and all ask for exclusive mode (a sidecar has one place in
    /// the queue, that of its first waiter, so behind a shared one of its own an exclusive waiter has none yet).
    is_strict: bool,
    pub(crate) grants: u32,
    pub(crate) refusals: u32,
    pub(crate) losses: u32,
    pub(crate) unknowns: u32,
}

const LATENCY: Duration = Duration::from_millis(2);

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

    fn at(&mut self, after: Duration, what: Happening) {
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

    fn act(&mut self, what: Do) {
        match what {
            Do::Acquire {
                sidecar,
                shared,
                ttl_ms,
                wait_ms,
                manual,
                max_hold_ms,
            } => {
                self.made += 1;
                let waiter = WaiterId(self.made);
                let mode = if shared {
                    Mode::Shared
                } else {
                    Mode::Exclusive
                };
                let acquire = Acquire {
                    waiter,
                    mode,
                    ttl: Ttl::try_new(Duration::from_millis(ttl_ms)).expect("a ttl"),
                    wait_until: self.now.saturating_add(Duration::from_millis(wait_ms)),
                    renew: if manual { Renew::Manual } else { Renew::Auto },
                    max_hold: Duration::from_millis(max_hold_ms),
                    is_attached: false,
                    owner: owner(),
                };
                let waiting = Waiting {
                    sidecar,
                    since: self.now,
                    mode,
                    is_patient: wait_ms > 0,
                };
                self.waiters.insert(waiter, waiting);
                self.give(sidecar, Event::Acquire(acquire));
            }
            Do::Cancel { pick } => {
                if let Some(id) = picked(self.waiters.keys(), pick) {
                    let sidecar = self.waiters.remove(&id).expect("picked").sidecar;
                    // Only what a paused sidecar has not heard of may race with the departure.
                    if self.is_deaf(sidecar) {
                        self.left.insert(id);
                    } else {
                        self.gone.insert(id);
                    }
                    self.give(sidecar, Event::Cancel(id));
                }
            }
            Do::Release { pick, confirm } => {
                if let Some((sidecar, lease)) = picked(self.leases.keys(), pick) {
                    self.leases.remove(&(sidecar, lease));
                    self.give(sidecar, Event::Release { lease, confirm });
                }
            }
            Do::Renew { pick, ttl_ms } => {
                if let Some((sidecar, lease)) = picked(self.leases.keys(), pick) {
                    self.made += 1;
                    let id = RenewId(self.made);
                    let ttl =
                        ttl_ms.map(|ms| Ttl::try_new(Duration::from_millis(ms)).expect("a ttl"));
                    self.sidecars[sidecar].renewals.insert(id);
                    self.give(sidecar, Event::Renew { lease, id, ttl });
                }
            }
            Do::Revoke { pick } => {
                if let Some((sidecar, lease)) = picked(self.leases.keys(), pick) {
                    self.give(
                        sidecar,
                        Event::Revoke {
                            lease,
                            reason: LossReason::Sibling,
                        },
                    );
                }
            }
            Do::Pause { sidecar, ms } => {
                let until = self.now.saturating_add(Duration::from_millis(ms));
                let paused = &mut self.sidecars[sidecar].paused_until;
                *paused = (*paused).max(until);
                self.at(Duration::from_millis(ms), Happening::Resume { sidecar });
            }
            Do::Fate { sidecar, fate } => self.sidecars[sidecar].fate = Some(fate),
            Do::Drain { sidecar } => self.give(sidecar, Event::Drain(LossReason::Draining)),
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
    fn is_deaf(&self, number: usize) -> bool {
        let sidecar = &self.sidecars[number];
        self.now < sidecar.paused_until || !sidecar.backlog.is_empty()
    }

    /// Gives a sidecar an event, now or when it wakes, and does what its slot asks for.
    fn give(&mut self, number: usize, event: Event) {
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

    fn granted(&mut self, number: usize, waiter: WaiterId, grant: &pawl_lock::lease::Grant) {
        self.grants += 1;
        assert!(
            !self.sidecars[number].is_draining,
            "a draining sidecar grants nothing"
        );
        assert!(
            !self.gone.contains(&waiter),
            "a waiter that left gets nothing"
        );
        if self.left.remove(&waiter) {
            let is_asleep = self.now < self.sidecars[number].paused_until;
            assert!(
                !is_asleep,
                "only what was asked for before it left may race"
            );
            self.give(
                number,
                Event::Release {
                    lease: grant.lease,
                    confirm: false,
                },
            );
            return;
        }
        let waiting = self
            .waiters
            .remove(&waiter)
            .expect("each waiter is answered once");
        assert_eq!(waiting.mode, grant.mode);
        assert!(!grant.deadline.is_over(self.now), "a grant is alive");
        let token = grant.token.get();
        assert!(!self.tokens.contains_key(&token), "tokens are unique");
        let earlier = self
            .tokens
            .iter()
            .filter(|(_, mode)| !mode.is_compatible(grant.mode));
        let highest = earlier.map(|(token, _)| *token).max().unwrap_or(0);
        assert!(token > highest, "tokens climb: {token} after {highest}");
        self.tokens.insert(token, grant.mode);
        self.leases.insert((number, grant.lease), grant.mode);
        if self.is_strict && self.order == Order::Fifo && waiting.is_patient {
            // The older ones had time enough to make themselves known.
            let slack = LATENCY * 4;
            let passed = self.waiters.values().find(|other| {
                other.is_patient
                    && other.since.saturating_add(slack) < waiting.since
                    && !other.mode.is_compatible(waiting.mode)
            });
            assert!(
                passed.is_none(),
                "first come, first served: {passed:?} before {waiting:?}"
            );
        }
    }

    /// One believer: what each sidecar would answer now, also one that is paused and answers when it wakes.
    fn check(&self) {
        let believed: Vec<_> = self
            .leases
            .iter()
            .filter(|((sidecar, lease), _)| {
                let view = self.sidecars[*sidecar].slot.lease(self.now, *lease);
                view.is_some_and(|view| {
                    matches!(view.state, LeaseState::Held | LeaseState::Uncertain)
                })
            })
            .collect();
        for (index, (one, mode)) in believed.iter().enumerate() {
            for (other, other_mode) in &believed[index + 1..] {
                assert!(
                    mode.is_compatible(**other_mode),
                    "two believers at {:?}: {one:?} {other:?}",
                    self.now
                );
            }
        }
    }
}

fn sidecar_of(hold: HoldId) -> usize {
    usize::try_from(hold.bits() >> 64).expect("a small number") - 1
}

fn picked<'a, T: Copy + 'a>(
    mut from: impl ExactSizeIterator<Item = &'a T>,
    pick: usize,
) -> Option<T> {
    let count = from.len();
    if count == 0 {
        None
    } else {
        from.nth(pick % count).copied()
    }
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

/// Terms that make the faults bite within seconds.
pub(crate) fn terms(order: Order, lock_delay_ms: u64, retain_ms: u64) -> Terms {
    Terms {
        order,
        lock_delay: Duration::from_millis(lock_delay_ms),
        retain: Duration::from_millis(retain_ms),
        idle: None,
        retry: Backoff {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(500),
            factor: 2,
            is_jittered: true,
        },
        poll: Duration::from_millis(400),
        call_timeout: Duration::from_millis(300),
    }
}
