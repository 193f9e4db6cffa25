//! What the nodes said to an attempt, so far. It decides by no more than what was noted: no socket, no clock.

use std::time::Duration;

use pawl_lock::{
    BackendError, BackendToken,
    backend::{Acquired, Busy, Holder, Wanted},
    quorum::{Ballot, Quorum, Verdict, Vote},
};

/// What the nodes said to an attempt, so far.
#[derive(Debug)]
pub struct Tally {
    quorum: Quorum,
    ballot: Ballot,
    /// Which nodes granted it, and the numbers that they assigned.
    pub granted: Vec<(usize, BackendToken)>,
    refusals: Vec<Busy>,
    /// What the others said, those that are silent included.
    pub errors: Vec<BackendError>,
    heard: Vec<bool>,
    wanted: Option<Wanted>,
}

impl Tally {
    /// Nobody has answered.
    pub fn new(quorum: Quorum) -> Self {
        Self {
            quorum,
            ballot: Ballot::new(quorum),
            granted: Vec::new(),
            refusals: Vec::new(),
            errors: Vec::new(),
            heard: vec![false; quorum.nodes()],
            wanted: None,
        }
    }

    /// A node's answer. `node` is below [`Quorum::nodes`], and answers once.
    pub fn note(&mut self, node: usize, answer: Result<Acquired, BackendError>) {
        self.heard[node] = true;
        let vote = match answer {
            Ok(Acquired::Granted(granted)) => {
                self.granted.push((node, granted.token));
                self.wanted = oldest(self.wanted, granted.wanted);
                Vote::Granted(granted.token)
            }
            Ok(Acquired::Busy(busy)) => {
                self.refusals.push(busy);
                Vote::Refused
            }
            Err(error) => {
                self.errors.push(error);
                Vote::Silent
            }
        };
        self.ballot.count(vote);
    }

    /// The time is over: whoever has not answered is silent, and is named.
    pub fn close(&mut self) -> Vec<usize> {
        let late: Vec<usize> = (0..self.heard.len())
            .filter(|node| !self.heard[*node])
            .collect();
        for node in &late {
            self.note(*node, Err(BackendError::timeout()));
        }
        late
    }

    /// What follows from the answers.
    pub fn verdict(&self) -> Verdict {
        self.ballot.verdict()
    }

    /// The nodes that have not answered.
    pub fn open(&self) -> Vec<usize> {
        (0..self.heard.len())
            .filter(|node| !self.heard[*node])
            .collect()
    }

    /// How many nodes have a say.
    pub fn answered(&self) -> usize {
        self.granted.len() + self.refusals.len()
    }

    /// The oldest waiter that a node told of.
    pub const fn wanted(&self) -> Option<Wanted> {
        self.wanted
    }

    /// The answer to one that cannot have it.
    pub fn busy(&self) -> Busy {
        let holders = self.refusals.iter().filter_map(|busy| busy.holder.clone());
        let times = self.refusals.iter().filter_map(|busy| busy.retry_in);
        Busy {
            holder: held(self.quorum, holders).into_iter().next(),
            // Places are hints for those who wait; there is no order among them.
            ahead: None,
            retry_in: self
                .ballot
                .retry_in(times.collect())
                .filter(|retry| *retry > Duration::ZERO),
        }
    }
}

/// The one that has been waiting for longer.
pub(super) fn oldest(one: Option<Wanted>, other: Option<Wanted>) -> Option<Wanted> {
    one.into_iter().chain(other).max_by_key(|wanted| wanted.age)
}

/// The holders that a majority of nodes shows. A hold's number is the same at a majority of nodes; what else they say of
/// it is taken from the one that was told last.
pub fn held(quorum: Quorum, shown: impl IntoIterator<Item = Holder>) -> Vec<Holder> {
    let mut found: Vec<(usize, Holder)> = Vec::new();
    for holder in shown {
        let known = found
            .iter_mut()
            .find(|(_, known)| known.token == holder.token && known.mode == holder.mode);
        match known {
            Some((count, known)) => {
                *count += 1;
                if known.expires_in < holder.expires_in {
                    *known = holder;
                }
            }
            None => found.push((1, holder)),
        }
    }
    found.retain(|(count, _)| quorum.is_majority(*count));
    found.into_iter().map(|(_, holder)| holder).collect()
}

#[cfg(test)]
mod tests {
    use pawl_lock::{Owner, backend::Granted, lease::Mode};

    use super::*;

    fn holder(token: u64, owner: &str, expires: u64) -> Holder {
        Holder {
            owner: Owner::try_new(owner).unwrap(),
            mode: Mode::Exclusive,
            token: BackendToken::try_new(token).ok(),
            held_for: None,
            expires_in: Some(Duration::from_secs(expires)),
        }
    }

    fn refusal(holder: Holder) -> Result<Acquired, BackendError> {
        Ok(Acquired::Busy(Busy {
            retry_in: holder.expires_in,
            holder: Some(holder),
            ahead: Some(3),
        }))
    }

    #[test]
    fn a_holder_is_one_that_a_majority_shows() {
        let mut tally = Tally::new(Quorum::try_new(5).unwrap());
        tally.note(0, refusal(holder(7, "before", 5)));
        tally.note(3, refusal(holder(9, "a loser of the vote", 1)));
        tally.note(1, refusal(holder(7, "after", 6)));
        assert_eq!(tally.verdict(), Verdict::Busy);
        assert_eq!(tally.busy().holder, None);
        tally.note(2, refusal(holder(7, "before", 4)));
        let busy = tally.busy();
        assert_eq!(busy.holder, Some(holder(7, "after", 6)));
        assert_eq!(busy.retry_in, Some(Duration::from_secs(5)));
        assert_eq!(busy.ahead, None);
    }

    #[test]
    fn the_late_are_silent_and_named() {
        let mut tally = Tally::new(Quorum::try_new(3).unwrap());
        let granted = Granted {
            token: BackendToken::MIN,
            session: 0,
            wanted: Some(Wanted {
                mode: Mode::Shared,
                age: Duration::from_secs(4),
            }),
        };
        tally.note(1, Ok(Acquired::Granted(granted)));
        assert_eq!(tally.open(), [0, 2]);
        assert_eq!(tally.close(), [0, 2]);
        assert_eq!(tally.verdict(), Verdict::Unreachable);
        assert_eq!((tally.answered(), tally.errors.len()), (1, 2));
        assert_eq!(tally.wanted(), granted.wanted);
    }
}
