//! Chance for backoffs: the core draws it from the slot's ids, so that a run can be repeated.

use std::time::Duration;

use super::event::Backoff;
use crate::name::HoldId;

/// SplitMix64 ("Fast splittable pseudorandom number generators", OOPSLA 2014): enough to spread retries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn seeded_by(id: HoldId) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "both halves go into the seed"
        )]
        let seed = (id.bits() ^ (id.bits() >> 64)) as u64;
        Self(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The delay before try number `failures` (from 1): the bound that grew to, or with full jitter anything between
    /// a millisecond and that.
    pub(super) fn delay(&mut self, backoff: Backoff, failures: u32) -> Duration {
        let growth = backoff
            .factor
            .max(1)
            .saturating_pow(failures.saturating_sub(1));
        let bound = backoff.initial.saturating_mul(growth).min(backoff.max);
        let micros = u64::try_from(bound.as_micros())
            .unwrap_or(u64::MAX)
            .max(1_000);
        if !backoff.is_jittered {
            return Duration::from_micros(micros);
        }
        Duration::from_micros(1_000 + self.draw() % micros)
    }

    /// `poll`, spread over its last quarter, so that sidecars do not ask in step.
    pub(super) fn spread(&mut self, poll: Duration) -> Duration {
        let quarter = u64::try_from(poll.as_micros() / 4)
            .unwrap_or(u64::MAX)
            .max(1);
        poll.saturating_sub(Duration::from_micros(self.draw() % quarter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_millis(50),
        max: Duration::from_secs(2),
        factor: 2,
        is_jittered: true,
    };

    #[test]
    fn delays_stay_within_the_growing_bound_and_use_it() {
        let mut jitter = Jitter::seeded_by(HoldId::from_bits(7));
        for failures in 1..40 {
            let bound = (BACKOFF.initial * 2_u32.saturating_pow(failures - 1).min(1 << 10))
                .min(BACKOFF.max);
            let drawn: Vec<_> = (0..200).map(|_| jitter.delay(BACKOFF, failures)).collect();
            assert!(
                drawn
                    .iter()
                    .all(|delay| *delay <= bound + Duration::from_millis(1))
            );
            assert!(
                drawn.iter().any(|delay| *delay < bound / 4),
                "full jitter reaches low"
            );
            assert!(drawn.iter().any(|delay| *delay > bound / 2), "and high");
        }
    }

    #[test]
    fn without_jitter_a_delay_is_its_bound() {
        let mut jitter = Jitter::seeded_by(HoldId::from_bits(8));
        let backoff = Backoff {
            is_jittered: false,
            ..BACKOFF
        };
        let delays =
            [1, 2, 3, 6, 7, 40].map(|failures| jitter.delay(backoff, failures).as_millis());
        assert_eq!(delays, [50, 100, 200, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn polls_are_spread_but_never_late() {
        let mut jitter = Jitter::seeded_by(HoldId::from_bits(9));
        let poll = Duration::from_secs(1);
        for _ in 0..1_000 {
            let spread = jitter.spread(poll);
            assert!(spread <= poll && spread >= poll * 3 / 4);
        }
    }
}
