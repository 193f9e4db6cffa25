//! What must hold in the world at every instant.

use pawl_lock::{
    LeaseState,
    lease::{Grant, Order},
    slot::{Event, WaiterId},
};

use crate::run::{LATENCY, World};

impl World {
    pub(crate) fn granted(&mut self, number: usize, waiter: WaiterId, grant: &Grant) {
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
    pub(crate) fn check(&self) {
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
