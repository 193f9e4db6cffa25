//! What is remembered of leases that ended, so that their owners are told how.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use pawl_lock::{Instant, LossReason};

use super::{LeaseError, LeaseId};

/// How a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Lost(LossReason),
    Released,
}

impl From<End> for LeaseError {
    fn from(end: End) -> Self {
        match end {
            End::Lost(reason) => Self::Lost { reason },
            End::Released => Self::Released,
        }
    }
}

/// How many losses are remembered, and how long. An owner that was lost must hear of it, so these are not pushed out
/// by the many releases.
const LOST: Bound = Bound {
    most: 10_000,
    age: Duration::from_mins(10),
};
/// How many releases are remembered, and how long: a courtesy to those that release twice.
const RELEASED: Bound = Bound {
    most: 4_096,
    age: Duration::from_mins(1),
};

/// The leases that ended lately. Bounded in number and age; both bounds are applied when one is added.
#[derive(Debug, Default)]
pub(super) struct Ended {
    known: HashMap<LeaseId, End>,
    lost: VecDeque<(Instant, LeaseId)>,
    released: VecDeque<(Instant, LeaseId)>,
}

#[derive(Clone, Copy)]
struct Bound {
    most: usize,
    age: Duration,
}

impl Ended {
    /// Remembers an end.
    pub(super) fn add(&mut self, now: Instant, id: LeaseId, end: End) {
        let (queue, bound) = match end {
            End::Lost(_) => (&mut self.lost, LOST),
            End::Released => (&mut self.released, RELEASED),
        };
        queue.push_back((now, id));
        self.known.insert(id, end);
        while let Some((at, oldest)) = queue.front().copied() {
            if queue.len() <= bound.most && now.saturating_since(at) <= bound.age {
                break;
            }
            queue.pop_front();
            self.known.remove(&oldest);
        }
    }

    /// How a lease ended; [`LeaseError::Unknown`] if that is not, or no longer, known.
    pub(super) fn error(&self, id: &LeaseId) -> LeaseError {
        self.known
            .get(id)
            .map_or(LeaseError::Unknown, |end| (*end).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_outlast_any_number_of_releases() {
        let mut ended = Ended::default();
        let now = Instant::from_nanos(1);
        let lost = LeaseId::random();
        ended.add(now, lost, End::Lost(LossReason::Expired));
        let first = LeaseId::random();
        ended.add(now, first, End::Released);
        assert!(matches!(ended.error(&first), LeaseError::Released));
        for _ in 0..RELEASED.most {
            ended.add(now, LeaseId::random(), End::Released);
        }
        assert!(matches!(ended.error(&first), LeaseError::Unknown));
        assert!(matches!(
            ended.error(&lost),
            LeaseError::Lost {
                reason: LossReason::Expired
            }
        ));
        assert_eq!(ended.known.len(), RELEASED.most + 1);
    }

    #[test]
    fn what_is_too_old_or_too_many_is_forgotten() {
        let mut ended = Ended::default();
        let start = Instant::from_nanos(1);
        let first = LeaseId::random();
        ended.add(start, first, End::Lost(LossReason::Idle));
        let later = start.saturating_add(LOST.age + Duration::from_nanos(1));
        ended.add(later, LeaseId::random(), End::Lost(LossReason::Idle));
        assert!(matches!(ended.error(&first), LeaseError::Unknown));
        for _ in 0..2 * LOST.most {
            ended.add(later, LeaseId::random(), End::Lost(LossReason::Idle));
        }
        assert_eq!(
            (ended.known.len(), ended.lost.len()),
            (LOST.most, LOST.most)
        );
    }
}
