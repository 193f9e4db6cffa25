//! The model of token making: leases of holds that come and go have the tokens `T * 1024 + n`.
//!
//! As long as the backend's T climbs, tokens are unique and climb in the order of grants; a backend whose T does not (its
//! memory is lost with its clock, say) gives one twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use pawl_lock::token::{BackendToken, LEASES_PER_HOLD};
use stateright::{Checker as _, Model, Property};

/// How many holds may be taken.
const HOLDS: usize = 3;
/// How many grants are looked at.
const GRANTS: usize = 6;

struct Tokens {
    /// Whether the backend's tokens climb.
    climbs: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// The last T.
    last: u64,
    holds: usize,
    /// The hold that is there: its T and how many leases it has served.
    hold: Option<(u64, u16)>,
    /// The tokens of leases, in the order of their grants.
    granted: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    /// A hold is taken; T jumps by this, at least 1.
    Take(u64),
    /// The hold serves a lease.
    Serve,
    /// It serves so many that `left` are left: what happens at the end of a hold is what matters.
    ServeMost { left: u16 },
    /// It ends.
    End,
    /// The backend forgets its last T.
    Forget,
}

impl Model for Tokens {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            last: 5,
            holds: 0,
            hold: None,
            granted: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.hold {
            None if state.holds < HOLDS => {
                actions.extend([Action::Take(1), Action::Take(3)]);
                if !self.climbs && state.last != 5 {
                    actions.push(Action::Forget);
                }
            }
            None => {}
            Some((_, served)) => {
                actions.push(Action::End);
                if state.granted.len() < GRANTS {
                    actions.push(Action::Serve);
                    if served < LEASES_PER_HOLD - 2 {
                        actions.push(Action::ServeMost { left: 1 });
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Take(by) => {
                state.last += by;
                state.holds += 1;
                state.hold = Some((state.last, 0));
            }
            Action::Serve => {
                let (token, served) = state.hold?;
                let backend = BackendToken::try_new(token).ok()?;
                // Without a number left the hold must be taken anew.
                let lease = backend.lease(served)?;
                state.granted.push(lease.get());
                state.hold = Some((token, served + 1));
            }
            Action::ServeMost { left } => {
                let (token, _) = state.hold?;
                state.hold = Some((token, LEASES_PER_HOLD - left));
            }
            Action::End => state.hold = None,
            Action::Forget => state.last = 5,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("tokens climb", |_, state: &State| {
                state.granted.is_sorted_by(|one, next| one < next)
            }),
            Property::sometimes("a hold serves its last lease", |_, state: &State| {
                let last = u64::from(LEASES_PER_HOLD) - 1;
                state.granted.iter().any(|token| token % 1024 == last)
            }),
            Property::sometimes("the next hold follows at once", |_, state: &State| {
                state
                    .granted
                    .windows(2)
                    .any(|pair| pair[0] + 1 == pair[1] && pair[1] % 1024 == 0)
            }),
        ]
    }
}

#[test]
fn tokens_climb_over_changes_of_the_hold() {
    let checker = Tokens { climbs: true }.checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 100);
}

#[test]
fn a_backend_token_that_does_not_climb_breaks_it() {
    let checker = Tokens { climbs: false }.checker().spawn_bfs().join();
    checker.assert_any_discovery("tokens climb");
}
