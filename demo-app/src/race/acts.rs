//! The acts. Each plays on the stage, adds its rows to the report, and says what was not as it should be.

pub mod crash;
pub mod overhead;
pub mod queue;
pub mod race;
pub mod stall;

use crate::clock::Instant;

/// How many pairs of neighbours, ordered by their begin, overlap. Under a lock it is none.
pub(super) fn overlaps(mut held: Vec<(Instant, Instant)>) -> usize {
    held.sort_unstable();
    held.windows(2).filter(|pair| pair[1].0 < pair[0].1).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_believe_at_once_are_seen() {
        let t = |micros: u64| serde_json::from_value::<Instant>(micros.into()).unwrap();
        let (a, b, c) = ((t(0), t(10)), (t(12), t(20)), (t(30), t(40)));
        assert_eq!(overlaps(vec![c, a, b]), 0);
        assert_eq!(overlaps(vec![c, a, (t(5), t(20))]), 1);
        assert_eq!(overlaps(vec![a, a, a]), 2);
    }
}
