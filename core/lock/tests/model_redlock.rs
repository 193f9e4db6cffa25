//! The model of Redlock with the rules of `pawl_lock::quorum`: three nodes and two clients that acquire, renew, release
//! and expire, while a node restarts empty, clocks jump, and clients pause anywhere (time may pass between any two steps).
//!
//! A tick is a second. A client asks nodes one after another in any order and decides some time after.
//! Twins that must find two believers: a node that counts at once after its restart, and a node whose clock jumps ahead
//! (which Redlock does not survive, and `docs/backends.md` says so).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::time::Duration;

use pawl_lock::{
    BackendToken, Deadline, Instant, Ttl,
    quorum::{Ballot, Quorum, Verdict, Vote, assign, counts, is_worth, raise},
};
use stateright::{Checker as _, HasDiscoveries, Model, Property};

const NODES: usize = 3;
const CLIENTS: usize = 2;
const TTL: u8 = 2;
/// All nodes have been up for long enough at the start.
const START: u8 = 10;
const END: u8 = 14;
/// Nodes are alike, so it does not matter which one restarts.
const RESTARTING: usize = 2;
/// A clock jumps at another one.
const JUMPING: usize = 0;

#[derive(Clone, Copy)]
struct Redlock {
    /// Whether a node that restarted counts only when it has been up for longer than the ttl.
    waits_after_restart: bool,
    /// Whether a node's clock may jump ahead, and not only back.
    jumps_ahead: bool,
    /// How many clocks jump back.
    jumps: u8,
    /// How many nodes restart.
    restarts: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    now: u8,
    nodes: [Node; NODES],
    clients: [Client; CLIENTS],
    restarts: u8,
    jumps: u8,
    /// The largest token of a grant, and whether one was not above those before.
    token: u64,
    has_fallen: bool,
    has_renewed: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    /// Who holds, until when, and the number it has.
    held: Option<(usize, u8, u64)>,
    up_since: u8,
    last: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Client {
    /// It has not begun.
    Fresh,
    Asking {
        start: u8,
        proposed: u64,
        votes: [Option<Told>; NODES],
    },
    /// It has a grant; a renewal may be under way, with when it began and which nodes extended.
    Granted {
        since: u8,
        renewal: Option<(u8, [Option<bool>; NODES])>,
    },
    /// Its deadline passed. What it left at nodes expires there.
    Lost,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Told {
    Granted(u64),
    Refused,
    Silent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Tick,
    Begin { client: usize, proposed: u64 },
    Ask { client: usize, node: usize },
    Decide { client: usize },
    Renew { client: usize },
    Extend { client: usize, node: usize },
    Renewed { client: usize },
    Release { client: usize },
    Restart { node: usize },
    JumpBack { node: usize },
    JumpAhead { node: usize },
}

fn ttl() -> Ttl {
    Ttl::try_new(Duration::from_secs(u64::from(TTL))).expect("it is a ttl")
}

fn at(tick: u8) -> Instant {
    Instant::from_nanos(u64::from(tick) * 1_000_000_000)
}

fn token(number: u64) -> BackendToken {
    BackendToken::try_new(number).expect("numbers are small")
}

fn quorum() -> Quorum {
    Quorum::try_new(NODES).expect("three nodes decide")
}

fn verdict(votes: &[Option<Told>; NODES]) -> Verdict {
    let mut ballot = Ballot::new(quorum());
    for told in votes.iter().flatten() {
        ballot.count(match told {
            Told::Granted(number) => Vote::Granted(token(*number)),
            Told::Refused => Vote::Refused,
            Told::Silent => Vote::Silent,
        });
    }
    ballot.verdict()
}

impl State {
    fn believes(&self, client: usize) -> bool {
        match self.clients[client] {
            Client::Granted { since, .. } => {
                !Deadline::after(at(since), ttl()).is_over(at(self.now))
            }
            _ => false,
        }
    }

    fn let_go(&mut self, client: usize) {
        for node in &mut self.nodes {
            if node.held.is_some_and(|(holder, ..)| holder == client) {
                node.held = None;
            }
        }
        self.clients[client] = Client::Done;
    }

    /// The second phase: each node that granted is asked for the largest number.
    fn agree(&mut self, client: usize, wanted: u64) -> Option<BackendToken> {
        let mut numbers = Vec::new();
        for node in &mut self.nodes {
            if let Some((holder, until, own)) = node.held
                && holder == client
            {
                let number = raise(node.last, own, wanted);
                node.last = node.last.max(number);
                node.held = Some((holder, until, number));
                numbers.push(token(number));
            }
        }
        quorum().agreed(&numbers)
    }

    fn decide(&mut self, client: usize) {
        let Client::Asking { start, votes, .. } = self.clients[client].clone() else {
            return;
        };
        let token = match verdict(&votes) {
            Verdict::Granted(token) => Some(token),
            Verdict::Raise(largest) => self.agree(client, largest.get()),
            _ => None,
        };
        match token {
            Some(token) if is_worth(at(start), at(self.now), ttl()) => {
                self.has_fallen |= self.restarts == 0 && token.get() <= self.token;
                self.token = self.token.max(token.get());
                self.clients[client] = Client::Granted {
                    since: start,
                    renewal: None,
                };
            }
            _ => self.let_go(client),
        }
    }

    fn extend(&mut self, client: usize, node: usize) {
        let is_extended = match &mut self.nodes[node].held {
            Some((holder, until, _)) if *holder == client => {
                *until = (*until).max(self.now + TTL);
                true
            }
            _ => false,
        };
        if let Client::Granted {
            renewal: Some((_, votes)),
            ..
        } = &mut self.clients[client]
        {
            votes[node] = Some(is_extended);
        }
    }
}

impl Redlock {
    fn ask(self, state: &mut State, client: usize, index: usize) {
        let now = state.now;
        let node = &mut state.nodes[index];
        // A node may say almost a second more than it is.
        let uptime = Duration::from_secs(u64::from(now - node.up_since) + 1);
        let is_counted = !self.waits_after_restart || counts(uptime, ttl());
        let Client::Asking {
            votes, proposed, ..
        } = &mut state.clients[client]
        else {
            return;
        };
        votes[index] = Some(if !is_counted {
            Told::Silent
        } else if node.held.is_some() {
            Told::Refused
        } else {
            node.last = assign(node.last, *proposed);
            node.held = Some((client, now + TTL, node.last));
            Told::Granted(node.last)
        });
    }
}

impl Model for Redlock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = Node {
            held: None,
            up_since: 0,
            last: 0,
        };
        vec![State {
            now: START,
            nodes: [node.clone(), node.clone(), node],
            clients: [Client::Fresh, Client::Fresh],
            restarts: 0,
            jumps: 0,
            token: 0,
            has_fallen: false,
            has_renewed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < END {
            actions.push(Action::Tick);
        }
        for (client, is) in state.clients.iter().enumerate() {
            match is {
                // The first one begins at the first tick: what matters is when the other does. The other's wall clock
                // was set back.
                Client::Fresh if client == 1 || state.now == START => {
                    actions.push(Action::Begin {
                        client,
                        proposed: [4, 1][client],
                    });
                }
                Client::Asking { votes, .. } => {
                    if verdict(votes) == Verdict::Open {
                        let open = (0..NODES).filter(|node| votes[*node].is_none());
                        actions.extend(open.map(|node| Action::Ask { client, node }));
                    } else {
                        actions.push(Action::Decide { client });
                    }
                }
                Client::Granted { renewal: None, .. } => {
                    actions.push(Action::Release { client });
                    if client == 0 && !state.has_renewed {
                        actions.push(Action::Renew { client });
                    }
                }
                Client::Granted {
                    renewal: Some((_, votes)),
                    ..
                } => {
                    if quorum().is_majority(votes.iter().flatten().filter(|is| **is).count()) {
                        actions.push(Action::Renewed { client });
                    } else {
                        let open = (0..NODES).filter(|node| votes[*node].is_none());
                        actions.extend(open.map(|node| Action::Extend { client, node }));
                    }
                }
                Client::Fresh | Client::Lost | Client::Done => {}
            }
        }
        if state.restarts < self.restarts {
            actions.push(Action::Restart { node: RESTARTING });
        }
        if state.jumps < self.jumps && state.nodes[JUMPING].held.is_some() {
            actions.push(Action::JumpBack { node: JUMPING });
            if self.jumps_ahead {
                actions.push(Action::JumpAhead { node: JUMPING });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                state.now += 1;
                for node in &mut state.nodes {
                    if node.held.is_some_and(|(_, until, _)| until <= state.now) {
                        node.held = None;
                    }
                }
                for client in 0..CLIENTS {
                    if matches!(state.clients[client], Client::Granted { .. })
                        && !state.believes(client)
                    {
                        state.clients[client] = Client::Lost;
                    }
                }
            }
            Action::Begin { client, proposed } => {
                state.clients[client] = Client::Asking {
                    start: state.now,
                    proposed,
                    votes: [None; NODES],
                };
            }
            Action::Ask { client, node } => self.ask(&mut state, client, node),
            Action::Decide { client } => state.decide(client),
            Action::Renew { client } => {
                let now = state.now;
                if let Client::Granted { renewal, .. } = &mut state.clients[client] {
                    *renewal = Some((now, [None; NODES]));
                    state.has_renewed = true;
                }
            }
            Action::Extend { client, node } => state.extend(client, node),
            Action::Renewed { client } => {
                if let Client::Granted { since, renewal } = &mut state.clients[client]
                    && let Some((start, _)) = renewal.take()
                {
                    *since = start;
                }
            }
            Action::Release { client } => state.let_go(client),
            Action::Restart { node } => {
                state.restarts += 1;
                state.nodes[node] = Node {
                    held: None,
                    up_since: state.now,
                    last: 0,
                };
            }
            Action::JumpBack { node } => {
                state.jumps += 1;
                if let Some((_, until, _)) = &mut state.nodes[node].held {
                    *until += 1;
                }
            }
            Action::JumpAhead { node } => {
                state.jumps += 1;
                state.nodes[node].held = None;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one believer", |_, state: &State| {
                (0..CLIENTS)
                    .filter(|client| state.believes(*client))
                    .count()
                    <= 1
            }),
            Property::always("tokens climb", |_, state: &State| !state.has_fallen),
            Property::sometimes("a renewed hold is released", |_, state: &State| {
                state.has_renewed && state.clients[0] == Client::Done
            }),
            Property::sometimes("one follows an expiry and a restart", |_, state: &State| {
                state.restarts > 0 && state.believes(1) && state.clients[0] == Client::Lost
            }),
        ]
    }
}

const SOUND: Redlock = Redlock {
    waits_after_restart: true,
    jumps_ahead: false,
    jumps: 0,
    restarts: 1,
};

#[test]
fn there_is_one_believer_and_tokens_climb() {
    let checker = SOUND.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    eprintln!("{} states", checker.unique_state_count());
    assert!(checker.unique_state_count() > 10_000);
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let model = Redlock {
        jumps: 1,
        restarts: 0,
        ..SOUND
    };
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_no_discovery("one believer");
    checker.assert_no_discovery("tokens climb");
    checker.assert_any_discovery("a renewed hold is released");
    assert!(checker.unique_state_count() > 10_000);
}

#[test]
fn a_node_that_counts_at_once_after_its_restart_makes_two_believers() {
    let twin = Redlock {
        waits_after_restart: false,
        ..SOUND
    };
    let found = HasDiscoveries::AnyFailures;
    let checker = twin.checker().finish_when(found).spawn_bfs().join();
    checker.assert_any_discovery("one believer");
}

#[test]
fn a_node_whose_clock_jumps_ahead_makes_two_believers() {
    let twin = Redlock {
        jumps_ahead: true,
        jumps: 1,
        restarts: 0,
        ..SOUND
    };
    let found = HasDiscoveries::AnyFailures;
    let checker = twin.checker().finish_when(found).spawn_bfs().join();
    checker.assert_any_discovery("one believer");
}
