//! The rules by which independent nodes decide together: Redlock's, with tokens that climb.
//!
//! Pure, like all of this crate: votes go in, a verdict comes out. The models in `tests/model_redlock.rs` are made of the
//! same functions.
//!
//! # Why it holds
//! * **Exclusion.** A hold is granted when a majority granted it. Two majorities meet in a node, and a node grants one
//!   exclusive hold at a time. A node that forgot what it granted would break this, so a node that restarted does not
//!   count until the longest hold that it can have forgotten is over ([`counts`]).
//! * **Tokens.** A node assigns each number to at most one hold, and its numbers climb. A hold's token is a number that
//!   a *majority* assigned to it. Two holds cannot both have the same number from a majority, and a later hold meets
//!   the majority of every earlier one in a node whose numbers are larger already. When the first answers do not agree,
//!   nodes are asked to assign the largest ([`Verdict::Raise`]) until a majority does.
//! * **Validity.** A grant is worth what is left of the ttl at the moment when it is answered ([`is_worth`]).
//!
//! Source: <https://redis.io/docs/latest/develop/use/patterns/distributed-locks/>; its tokens and the restart by uptime are
//! this crate's.

use std::time::Duration;

use crate::{
    time::{Deadline, Instant, Ttl},
    token::BackendToken,
};

/// How coarse a node tells its uptime: it counts whole seconds of its clock, so it may say almost one more than it is.
pub const UPTIME_GRANULARITY: Duration = Duration::from_secs(1);

/// How many nodes there are: an odd number from 3 to 15.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quorum(u8);

/// A number of nodes that cannot decide by majority as it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there must be an odd number of nodes from 3 to 15, and {0} is not")]
pub struct InvalidQuorum(usize);

/// What one node said to an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vote {
    /// It gave the hold, and assigned this number to it.
    Granted(BackendToken),
    /// Another stands in the way.
    Refused,
    /// Nothing, or nothing that counts: it is down, slow, or has not been up for long enough.
    Silent,
}

/// What the votes so far mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Neither is certain yet.
    Open,
    /// A majority gave the hold and assigned this token to it.
    Granted(BackendToken),
    /// A majority gave the hold, and does not agree on its token: nodes must be asked to assign this one, the largest.
    Raise(BackendToken),
    /// No majority can be had any more, and enough nodes answered to know it from them: the vote was split or another
    /// holds.
    Busy,
    /// Too few nodes answer for anybody to have a majority.
    Unreachable,
}

/// The votes on one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ballot {
    quorum: Quorum,
    granted: Vec<BackendToken>,
    refused: usize,
    silent: usize,
}

impl Quorum {
    /// The fewest nodes.
    pub const MIN_NODES: usize = 3;
    /// The most nodes.
    pub const MAX_NODES: usize = 15;

    /// This many nodes.
    ///
    /// # Errors
    /// [`InvalidQuorum`] unless it is odd and from [`Quorum::MIN_NODES`] to [`Quorum::MAX_NODES`].
    pub fn try_new(nodes: usize) -> Result<Self, InvalidQuorum> {
        match u8::try_from(nodes) {
            Ok(count) if nodes % 2 == 1 && (Self::MIN_NODES..=Self::MAX_NODES).contains(&nodes) => {
                Ok(Self(count))
            }
            _ => Err(InvalidQuorum(nodes)),
        }
    }

    /// How many nodes there are.
    pub const fn nodes(self) -> usize {
        self.0 as usize
    }

    /// How many of them are a majority.
    pub const fn majority(self) -> usize {
        self.nodes() / 2 + 1
    }

    /// Whether `count` nodes are a majority.
    pub const fn is_majority(self, count: usize) -> bool {
        count >= self.majority()
    }

    /// What a majority assigned, if it agrees.
    pub fn agreed(self, tokens: &[BackendToken]) -> Option<BackendToken> {
        tokens
            .iter()
            .copied()
            .find(|token| self.is_majority(tokens.iter().filter(|other| *other == token).count()))
    }
}

impl Ballot {
    /// No vote yet.
    pub const fn new(quorum: Quorum) -> Self {
        Self {
            quorum,
            granted: Vec::new(),
            refused: 0,
            silent: 0,
        }
    }

    /// Counts the vote of a node that has not voted yet.
    ///
    /// # Panics
    /// If there are more votes than nodes.
    pub fn count(&mut self, vote: Vote) {
        match vote {
            Vote::Granted(token) => self.granted.push(token),
            Vote::Refused => self.refused += 1,
            Vote::Silent => self.silent += 1,
        }
        assert!(
            self.voted() <= self.quorum.nodes(),
            "a node votes once on an attempt"
        );
    }

    fn voted(&self) -> usize {
        self.granted.len() + self.refused + self.silent
    }

    /// What the votes so far mean. Told as early as it is certain: a slow node is waited for only while its vote
    /// matters.
    pub fn verdict(&self) -> Verdict {
        let Self {
            quorum,
            granted,
            refused,
            silent,
        } = self;
        if quorum.is_majority(granted.len()) {
            if let Some(token) = quorum.agreed(granted) {
                return Verdict::Granted(token);
            }
            if let Some(largest) = granted.iter().max() {
                return Verdict::Raise(*largest);
            }
        }
        let open = quorum.nodes() - self.voted();
        if quorum.is_majority(granted.len() + open) {
            return Verdict::Open;
        }
        if quorum.is_majority(granted.len() + refused) {
            return Verdict::Busy;
        }
        // Those that may still answer decide whether the key is busy or the nodes are down.
        if quorum.is_majority(quorum.nodes() - silent) {
            return Verdict::Open;
        }
        Verdict::Unreachable
    }

    /// When a majority can be had at the latest, from what the nodes that refused say: as many of them as are missing
    /// must be free. Nothing if too few of them know.
    pub fn retry_in(&self, mut refusals: Vec<Duration>) -> Option<Duration> {
        refusals.sort_unstable();
        let missing = self.quorum.majority().saturating_sub(self.granted.len());
        refusals.get(missing.checked_sub(1)?).copied()
    }
}

/// Whether a node counts that says it has been up for `uptime`: nothing that it can have forgotten is still held.
///
/// `uptime` is in the node's whole seconds; [`UPTIME_GRANULARITY`] of it is not believed.
pub fn counts(uptime: Duration, max_ttl: Ttl) -> bool {
    uptime.saturating_sub(UPTIME_GRANULARITY) > max_ttl.as_duration()
}

/// Whether a grant that was asked for at `start` with `ttl` is still worth answering.
pub fn is_worth(start: Instant, now: Instant, ttl: Ttl) -> bool {
    !Deadline::after(start, ttl).is_over(now)
}

/// The number that a node assigns to a new hold: above its last, never below what the caller proposes (its wall clock in
/// milliseconds, so that numbers climb over a loss of the node's memory too, and are mostly the same at all nodes).
pub fn assign(last: u64, proposed: u64) -> u64 {
    proposed.max(last.saturating_add(1))
}

/// The number that a node assigns to a hold that has `own`, when it is asked to make it `wanted`: `wanted` itself if
/// that is `own` already or above all it ever assigned, else the next one.
pub fn raise(last: u64, own: u64, wanted: u64) -> u64 {
    if wanted == own {
        own
    } else {
        assign(last, wanted)
    }
}

#[cfg(test)]
mod tests;
