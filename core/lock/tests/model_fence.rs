//! The model of a fenced write: leases that expire, a holder that pauses, a write that arrives late.
//!
//! With the fence's check every write that was made on what its holder read is kept; without it one is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use stateright::{Checker as _, Model, Property};

/// Who works.
const CLIENTS: usize = 2;
/// How many leases each may have.
const TURNS: u8 = 2;

struct Fenced {
    /// Whether the resource compares tokens.
    checks: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// Who holds, by the lock service; it lets go when the lease is over, whatever the holder thinks.
    holder: Option<usize>,
    /// The last token that was given.
    token: u8,
    clients: [Client; CLIENTS],
    /// The resource: what it counts, and the highest token it saw.
    value: u8,
    highest: u8,
    /// Writes that were accepted.
    accepted: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Client {
    turns: u8,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Idle,
    Holding {
        token: u8,
    },
    /// It read the value and will write one more, however long that takes.
    Read {
        token: u8,
        value: u8,
    },
    /// The write is on its way.
    Sent {
        token: u8,
        value: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Acquire(usize),
    Read(usize),
    Send(usize),
    Arrive(usize),
    Expire,
}

impl Model for Fenced {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let client = Client {
            turns: TURNS,
            step: Step::Idle,
        };
        vec![State {
            holder: None,
            token: 0,
            clients: [client.clone(), client],
            value: 0,
            highest: 0,
            accepted: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, client) in state.clients.iter().enumerate() {
            match client.step {
                Step::Idle if state.holder.is_none() && client.turns > 0 => {
                    actions.push(Action::Acquire(id));
                }
                Step::Idle => {}
                Step::Holding { .. } => actions.push(Action::Read(id)),
                Step::Read { .. } => actions.push(Action::Send(id)),
                Step::Sent { .. } => actions.push(Action::Arrive(id)),
            }
        }
        if state.holder.is_some() {
            actions.push(Action::Expire);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Acquire(id) => {
                state.token += 1;
                state.holder = Some(id);
                state.clients[id].turns -= 1;
                state.clients[id].step = Step::Holding { token: state.token };
            }
            Action::Read(id) => {
                let Step::Holding { token } = state.clients[id].step else {
                    return None;
                };
                // Reading presents the token too: from here on older writers are refused.
                if self.checks && token < state.highest {
                    state.clients[id].step = Step::Idle;
                } else {
                    state.highest = state.highest.max(token);
                    let value = state.value;
                    state.clients[id].step = Step::Read { token, value };
                }
            }
            Action::Send(id) => {
                let Step::Read { token, value } = state.clients[id].step else {
                    return None;
                };
                state.clients[id].step = Step::Sent {
                    token,
                    value: value + 1,
                };
            }
            Action::Arrive(id) => {
                let Step::Sent { token, value } = state.clients[id].step else {
                    return None;
                };
                if !self.checks || token >= state.highest {
                    state.highest = state.highest.max(token);
                    state.value = value;
                    state.accepted += 1;
                }
                state.clients[id].step = Step::Idle;
                if state.holder == Some(id) {
                    state.holder = None;
                }
            }
            Action::Expire => state.holder = None,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no update is lost", |_, state: &State| {
                state.value == state.accepted
            }),
            // The model has teeth: a write comes after a later holder's.
            Property::sometimes("all turns are used", |_, state: &State| {
                state.clients.iter().all(|client| client.turns == 0)
                    && state.clients.iter().all(|client| client.step == Step::Idle)
            }),
            Property::sometimes(
                "a late write is refused or does harm",
                |_, state: &State| {
                    state.token > state.accepted
                        && state.clients.iter().all(|client| client.step == Step::Idle)
                },
            ),
        ]
    }
}

#[test]
fn with_the_fence_no_update_is_lost() {
    let checker = Fenced { checks: true }.checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(
        checker.unique_state_count() > 100,
        "{}",
        checker.unique_state_count()
    );
}

#[test]
fn without_the_fence_an_update_is_lost() {
    let checker = Fenced { checks: false }.checker().spawn_bfs().join();
    checker.assert_any_discovery("no update is lost");
}
