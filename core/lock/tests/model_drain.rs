//! The model of renew, release and drain of one hold, against a backend that answers late or never.
//!
//! The slot is the real one. Each of its calls may arrive at the server at any time after it was sent, also when the slot
//! gave it up, or not at all; its answer may be lost. The process may sleep. Between any two steps another owner may take
//! what is free. A tick is a second, and a call is given up at the next tick.
//!
//! Each twin is without one safeguard, at the server or in what the slot is told, and must be found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use pawl_lock::{
    BackendError, BackendToken, HoldId, Instant, Key, LeaseRef, LeaseState, LossReason, Owner, Ttl,
    backend::{Abandoned, Acquired, Busy, Category, Granted, Outcome, Released, Renewed},
    lease::{Mode, Order, Renew},
    name::HoldIds,
    slot::{self, Acquire, Answer, Backoff, Call, CallId, Event, Slot, Terms, WaiterId},
};
use stateright::{Checker as _, HasDiscoveries, Model, Property};

const TTL: u8 = 3;
/// A drain ends in this time, whatever the backend does: the ttl, and the last call's time limit.
const DRAIN: u8 = TTL + 1;

/// The safeguard that is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// A renewal does not compare the owner.
    RenewsAnyone,
    /// A renewal makes the hold if nothing is there.
    RenewsWhatIsGone,
    /// A release does not compare the owner.
    ReleasesAnyone,
    /// An abandonment does not stand in the way of an acquire that comes after it.
    ForgetsAbandoned,
    /// An acquire without an answer is taken for one that was refused.
    SilenceIsNo,
    /// A renewal without an answer is taken for one that reached.
    SilenceIsYes,
}

#[derive(Clone, Copy)]
struct Drain {
    flaw: Flaw,
    /// How many callers come here.
    callers: u64,
    /// How many requests that were given up may still be on their way.
    late: usize,
    /// For how long the process sleeps, in all, before it drains.
    sleep: u8,
    end: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    now: u8,
    slot: Ours,
    /// The lease that was granted here last.
    lease: Option<u64>,
    callers: u64,
    /// When the slot was told to drain.
    drained: Option<u8>,
    /// When it last asked for a hold, or for more of it.
    asked: BTreeMap<HoldId, u8>,
    /// The call that it waits for.
    waits_for: Option<Sent>,
    /// Requests that are on their way.
    requests: Vec<Sent>,
    /// The answer that is on its way.
    answer: Option<Told>,
    server: Server,
    /// Until when the other owner believes.
    other: Option<u8>,
    has_taken: bool,
    slept: u8,
    seen: Seen,
}

/// What came to pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a list of what was seen")]
struct Seen {
    /// The slot asked for a hold after it was told to drain.
    new_call: bool,
    /// A call got no answer.
    silence: bool,
    /// A call of ours changed the other's hold.
    harm: bool,
    /// A renewal arrived after the release of its hold was done.
    late_renewal: bool,
    /// An acquire arrived after it was abandoned.
    late_acquire: bool,
    /// A release was done and its answer never came.
    lost_release: bool,
}

/// The slot, compared by all that it knows.
#[derive(Clone)]
struct Ours {
    slot: Slot,
    text: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Server {
    held: Option<(Who, u8)>,
    token: u64,
    /// Released or abandoned.
    ended: Vec<HoldId>,
    abandoned: Vec<HoldId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Who {
    Slot(HoldId),
    Other,
}

/// A call of the slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sent {
    call: u64,
    at: u8,
    verb: Verb,
    hold: HoldId,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Verb {
    Acquire,
    Renew,
    /// With the attempt for the next caller.
    Release(Option<HoldId>),
    Abandon,
}

/// The token of a hold, if there is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Got(Option<u64>);

/// What the server says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Told {
    Acquired(Got),
    Renewed(bool),
    Released { next: Option<Got> },
    Settled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    /// A caller asks, and waits for long.
    Ask,
    Release,
    Drain,
    /// The request with this place among those that are on their way.
    Arrive(usize),
    Answer,
    Take,
    Tick,
    /// A tick that the slot hears nothing of.
    Sleep,
}

impl Ours {
    fn new() -> Self {
        let terms = Terms {
            order: Order::Fifo,
            lock_delay: Duration::ZERO,
            retain: Duration::ZERO,
            idle: None,
            retry: Backoff {
                initial: Duration::from_millis(50),
                max: Duration::from_millis(500),
                factor: 2,
                is_jittered: false,
            },
            poll: Duration::from_secs(1),
            call_timeout: Duration::from_secs(1),
        };
        let key = Key::try_new("k").unwrap();
        let slot = Slot::new(key, Arc::new(terms), HoldIds::new(1, 1));
        let text = format!("{slot:?}");
        Self { slot, text }
    }
}

impl PartialEq for Ours {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Ours {}

impl Hash for Ours {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn at(tick: u8) -> Instant {
    Instant::from_nanos(u64::from(tick) * 1_000_000_000)
}

fn acquire(caller: u64) -> Event {
    Event::Acquire(Acquire {
        waiter: WaiterId(caller),
        mode: Mode::Exclusive,
        ttl: Ttl::try_new(Duration::from_secs(u64::from(TTL))).unwrap(),
        wait_until: at(u8::MAX),
        renew: Renew::Auto,
        max_hold: Duration::from_secs(600),
        is_attached: false,
        owner: Owner::try_new("me").unwrap(),
    })
}

impl Sent {
    fn new(CallId(call): CallId, at: u8, call_made: &Call) -> Self {
        let (verb, hold) = match call_made {
            Call::Acquire(request) => (Verb::Acquire, request.hold),
            Call::Renew(request) => (Verb::Renew, request.hold),
            Call::Release(request) => {
                let next = request.next.as_ref().map(|next| next.hold);
                (Verb::Release(next), request.hold)
            }
            Call::Abandon(request) => (Verb::Abandon, request.hold),
        };
        Self {
            call,
            at,
            verb,
            hold,
        }
    }

    /// The hold that may come from it, or reach further.
    fn asks_for(self) -> Option<HoldId> {
        match self.verb {
            Verb::Acquire | Verb::Renew => Some(self.hold),
            Verb::Release(next) => next,
            Verb::Abandon => None,
        }
    }

    /// What the slot hears when no answer came in time.
    fn silence(self, flaw: Flaw) -> Answer {
        let error = BackendError::timeout;
        match self.verb {
            Verb::Acquire if flaw == Flaw::SilenceIsNo => Answer::Acquire(Err(BackendError::new(
                Category::Connection,
                Outcome::NotApplied,
                "refused",
            ))),
            Verb::Renew if flaw == Flaw::SilenceIsYes => {
                Answer::Renew(Ok(Renewed::Extended { wanted: None }))
            }
            Verb::Acquire => Answer::Acquire(Err(error())),
            Verb::Renew => Answer::Renew(Err(error())),
            Verb::Release(_) => Answer::Release(Err(error())),
            Verb::Abandon => Answer::Abandon(Err(error())),
        }
    }
}

impl Told {
    fn answer(self) -> Answer {
        match self {
            Self::Acquired(token) => Answer::Acquire(Ok(acquired(token))),
            Self::Renewed(true) => Answer::Renew(Ok(Renewed::Extended { wanted: None })),
            Self::Renewed(false) => Answer::Renew(Ok(Renewed::NotOwner)),
            Self::Released { next } => Answer::Release(Ok(Released {
                was_owner: true,
                next: next.map(acquired),
            })),
            Self::Settled => Answer::Abandon(Ok(Abandoned::Settled)),
        }
    }
}

fn acquired(Got(token): Got) -> Acquired {
    match token {
        Some(token) => Acquired::Granted(Granted {
            token: BackendToken::try_new(token).unwrap(),
            session: 0,
            wanted: None,
        }),
        None => Acquired::Busy(Busy::default()),
    }
}

impl Server {
    fn acquire(&mut self, now: u8, hold: HoldId) -> Got {
        match self.held {
            // Asked again: it has the one token of this hold, since no other was given meanwhile.
            Some((Who::Slot(held), _)) if held == hold => {}
            None if !self.abandoned.contains(&hold) => self.token += 1,
            _ => return Got(None),
        }
        self.held = Some((Who::Slot(hold), now + TTL));
        Got(Some(self.token))
    }

    fn let_go(&mut self, hold: HoldId) {
        if self.is_of(hold) {
            self.held = None;
        }
        if !self.ended.contains(&hold) {
            self.ended.push(hold);
        }
    }

    fn is_of(&self, hold: HoldId) -> bool {
        self.held.is_some_and(|(who, _)| who == Who::Slot(hold))
    }

    /// What the slot holds here.
    fn ours(&self) -> Option<HoldId> {
        match self.held? {
            (Who::Slot(hold), _) => Some(hold),
            (Who::Other, _) => None,
        }
    }

    fn apply(&mut self, flaw: Flaw, now: u8, request: Sent) -> Told {
        let hold = request.hold;
        match request.verb {
            Verb::Acquire => Told::Acquired(self.acquire(now, hold)),
            Verb::Renew => {
                let is_extended = match flaw {
                    Flaw::RenewsAnyone => self.held.is_some(),
                    Flaw::RenewsWhatIsGone => self.held.is_none() || self.is_of(hold),
                    _ => self.is_of(hold),
                };
                if is_extended {
                    self.held = Some((Who::Slot(hold), now + TTL));
                }
                Told::Renewed(is_extended)
            }
            Verb::Release(next) => {
                self.let_go(hold);
                if flaw == Flaw::ReleasesAnyone {
                    self.held = None;
                }
                let next = next.map(|next| self.acquire(now, next));
                Told::Released { next }
            }
            Verb::Abandon => {
                self.let_go(hold);
                if flaw != Flaw::ForgetsAbandoned && !self.abandoned.contains(&hold) {
                    self.abandoned.push(hold);
                }
                Told::Settled
            }
        }
    }
}

impl State {
    /// Tells the slot, and takes what it wants done.
    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.slot.slot.on(at(self.now), event, &mut actions);
        self.slot.text = format!("{:?}", self.slot.slot);
        for action in actions {
            match action {
                slot::Action::Call { id, call, .. } => {
                    let sent = Sent::new(id, self.now, &call);
                    if let Some(hold) = sent.asks_for() {
                        self.asked.insert(hold, self.now);
                        self.seen.new_call |= self.drained.is_some();
                    }
                    self.waits_for = Some(sent);
                    self.requests.push(sent);
                }
                slot::Action::Grant { grant, .. } => self.lease = Some(grant.lease.0),
                _ => {}
            }
        }
    }

    fn believes(&self) -> bool {
        let lease = self.lease.map(LeaseRef);
        let view = lease.and_then(|lease| self.slot.slot.lease(at(self.now), lease));
        view.is_some_and(|view| matches!(view.state, LeaseState::Held | LeaseState::Uncertain))
    }

    fn arrive(&mut self, flaw: Flaw, index: usize) {
        let request = self.requests.remove(index);
        let was_ended = self.server.ended.contains(&request.hold);
        self.seen.late_renewal |= request.verb == Verb::Renew && was_ended;
        self.seen.late_acquire |= request.verb == Verb::Acquire && was_ended;
        let others = self.server.held.filter(|(who, _)| *who == Who::Other);
        let told = self.server.apply(flaw, self.now, request);
        self.seen.harm |= others.is_some() && self.server.held != others;
        if self.waits_for == Some(request) {
            self.answer = Some(told);
        }
    }

    fn pass(&mut self) {
        self.now += 1;
        let now = self.now;
        self.server.held = self.server.held.filter(|(_, until)| now < *until);
        self.other = self.other.filter(|until| now < *until);
    }

    fn tick(&mut self, flaw: Flaw, late: usize) {
        self.pass();
        let now = self.now;
        if let Some(call) = self.waits_for.take_if(|call| call.at < now) {
            self.seen.silence = true;
            let was_done = self.answer.take().is_some();
            self.seen.lost_release |= was_done && matches!(call.verb, Verb::Release(_));
            let answer = call.silence(flaw);
            self.tell(Event::Answer {
                call: CallId(call.call),
                answer,
            });
        }
        self.tell(Event::Tick);
        let is_late = |sent: &&Sent| self.waits_for != Some(**sent);
        if self.requests.iter().filter(is_late).count() > late {
            // The oldest never arrives.
            self.requests.remove(0);
        }
    }

    /// Whether nothing can come to pass that has to do with this slot.
    fn is_over(&self) -> bool {
        self.is_drained() && self.requests.is_empty() && self.server.ours().is_none()
    }

    fn is_drained(&self) -> bool {
        self.drained.is_some() && self.slot.slot.is_idle()
    }
}

impl Model for Drain {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            slot: Ours::new(),
            lease: None,
            callers: 0,
            drained: None,
            asked: BTreeMap::new(),
            waits_for: None,
            requests: Vec::new(),
            answer: None,
            server: Server {
                held: None,
                token: 0,
                ended: Vec::new(),
                abandoned: Vec::new(),
            },
            other: None,
            has_taken: false,
            slept: 0,
            seen: Seen::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.is_over() {
            return;
        }
        if state.now < self.end {
            actions.push(Action::Tick);
        }
        if state.now < self.end && state.slept < self.sleep && state.drained.is_none() {
            actions.push(Action::Sleep);
        }
        // Who comes after the drain is refused without more.
        if state.callers < self.callers && state.drained.is_none() {
            actions.push(Action::Ask);
        }
        if state.believes() {
            actions.push(Action::Release);
        }
        if state.callers > 0 && state.drained.is_none() {
            actions.push(Action::Drain);
        }
        actions.extend((0..state.requests.len()).map(Action::Arrive));
        if state.answer.is_some() {
            actions.push(Action::Answer);
        }
        if state.server.held.is_none() && !state.has_taken {
            actions.push(Action::Take);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask => {
                state.callers += 1;
                state.tell(acquire(state.callers));
            }
            Action::Release => {
                let lease = LeaseRef(state.lease.take()?);
                state.tell(Event::Release {
                    lease,
                    confirm: true,
                });
            }
            Action::Drain => {
                state.drained = Some(state.now);
                state.tell(Event::Drain(LossReason::Draining));
            }
            Action::Arrive(index) => state.arrive(self.flaw, index),
            Action::Answer => {
                let call = CallId(state.waits_for.take()?.call);
                let answer = state.answer.take()?.answer();
                state.tell(Event::Answer { call, answer });
            }
            Action::Take => {
                state.has_taken = true;
                state.server.token += 1;
                state.server.held = Some((Who::Other, state.now + TTL));
                state.other = Some(state.now + TTL);
            }
            Action::Tick => state.tick(self.flaw, self.late),
            Action::Sleep => {
                state.slept += 1;
                state.pass();
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |_, state: &State| {
                !(state.believes() && state.other.is_some())
            }),
            Property::always(UNHARMED, |_, state: &State| !state.seen.harm),
            Property::always(GONE, |_, state: &State| {
                !state
                    .server
                    .ended
                    .iter()
                    .any(|hold| state.server.is_of(*hold))
            }),
            Property::always(RELEASED, |_, state: &State| {
                let left = state.server.ours().filter(|_| state.is_drained());
                left.is_none_or(|hold| state.now >= state.asked[&hold] + TTL)
            }),
            Property::always("a drain asks for nothing", |_, state: &State| {
                !state.seen.new_call
            }),
            Property::always("a drain ends", |_, state: &State| {
                state
                    .drained
                    .is_none_or(|since| state.now < since + DRAIN || state.slot.slot.is_idle())
            }),
            Property::always(
                "without a fault a drain lets go at once",
                |_, state: &State| {
                    let may_wait = state.seen.silence || state.waits_for.is_some();
                    state.drained.is_none() || may_wait || state.slot.slot.is_idle()
                },
            ),
            Property::sometimes("a renewal comes after the release", |_, state: &State| {
                state.seen.late_renewal && state.is_drained()
            }),
            Property::sometimes("an acquire comes after the drain", |_, state: &State| {
                state.seen.late_acquire && state.is_drained()
            }),
            Property::sometimes("a release's answer is lost", |_, state: &State| {
                state.seen.lost_release && state.other.is_some()
            }),
            Property::sometimes("the last caller is served", |model, state: &State| {
                state.callers == model.callers
                    && state.server.token >= model.callers
                    && state.believes()
            }),
        ]
    }
}

const ONE: &str = "one believer";
const UNHARMED: &str = "no call changes another owner's hold";
const GONE: &str = "what was let go stays away";
const RELEASED: &str = "after the drain all is released, or its ttl is over";

const ONE_CALLER: Drain = Drain {
    flaw: Flaw::None,
    callers: 1,
    late: 2,
    sleep: 0,
    end: 7,
};

/// The second one has its attempt in the release of the first one's hold, or waits when the drain comes.
const TWO_CALLERS: Drain = Drain {
    callers: 2,
    late: 1,
    end: 4,
    ..ONE_CALLER
};

/// For as long as a hold lives: what comes then comes too late.
const ASLEEP: Drain = Drain {
    late: 1,
    sleep: TTL,
    end: 5,
    ..ONE_CALLER
};

fn assert_sound(model: Drain) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    eprintln!("{} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000);
}

fn assert_found(flaw: Flaw, property: &'static str) {
    let found = HasDiscoveries::AnyOf([property].into());
    let twin = Drain { flaw, ..ONE_CALLER };
    let checker = twin.checker().finish_when(found).spawn_bfs().join();
    checker.assert_any_discovery(property);
}

#[test]
fn renew_release_and_drain_keep_the_laws() {
    assert_sound(ONE_CALLER);
}

#[test]
fn a_second_caller_changes_nothing() {
    assert_sound(TWO_CALLERS);
}

#[test]
fn a_process_that_sleeps_changes_nothing() {
    assert_sound(ASLEEP);
}

#[test]
fn a_renewal_that_does_not_compare_harms_another() {
    assert_found(Flaw::RenewsAnyone, UNHARMED);
}

#[test]
fn a_renewal_that_makes_a_hold_revives_what_was_released() {
    assert_found(Flaw::RenewsWhatIsGone, GONE);
}

#[test]
fn a_release_that_does_not_compare_harms_another() {
    assert_found(Flaw::ReleasesAnyone, UNHARMED);
}

#[test]
fn an_abandonment_that_is_forgotten_lets_a_late_acquire_hold_after_the_drain() {
    assert_found(Flaw::ForgetsAbandoned, RELEASED);
}

#[test]
fn an_unknown_acquire_that_is_not_abandoned_holds_after_the_drain() {
    assert_found(Flaw::SilenceIsNo, RELEASED);
}

#[test]
fn a_renewal_without_answer_that_counts_makes_two_believers() {
    assert_found(Flaw::SilenceIsYes, ONE);
}
