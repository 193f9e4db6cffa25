//! What was seen, and since when: the rule of local observation.
//!
//! Nobody's clock is compared with another's. A hold (or place) of somebody else is over when this process has seen it
//! stand unchanged for its whole time on its own boot clock, as client-go's leader election judges leases. What this
//! process wrote itself counts from before the write was sent, so the holder always finds its own end before anybody
//! else does.

use pawl_lock::{HoldId, Instant};

use super::record::Record;

/// How many writes that may have had their effect are remembered.
const MOST_TRIED: usize = 64;

/// Something in a record that ends if it stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A hold.
    Hold(HoldId),
    /// A place in the queue.
    Place(HoldId),
    /// The holder in the spec, if it is another program's.
    Foreign,
}

/// What of one object was seen, and what this process tried to write to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sights {
    seen: Vec<Sight>,
    tried: Vec<Sight>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    what: What,
    stamp: u64,
    since: Instant,
}

impl Sights {
    /// Takes note of a record that was read or told at `now`.
    pub(super) fn look(&mut self, record: &Record, now: Instant) {
        let seen = record.stamps().map(|(what, stamp)| {
            let same = |sight: &&Sight| sight.what == what && sight.stamp == stamp;
            let before = self.seen.iter().find(same);
            let since = before
                .or_else(|| self.tried.iter().find(same))
                .map_or(now, |sight| sight.since);
            Sight { what, stamp, since }
        });
        self.seen = seen.collect();
    }

    /// Takes note of a write before it is sent at `now`.
    pub(super) fn tries(&mut self, wrote: &[(What, u64)], now: Instant) {
        for (what, stamp) in wrote {
            if self.tried.len() >= MOST_TRIED {
                self.tried.remove(0);
            }
            self.tried.push(Sight {
                what: *what,
                stamp: *stamp,
                since: now,
            });
        }
    }

    /// Since when it has stood as it is; nothing if it was not seen.
    pub(super) fn since(&self, what: What) -> Option<Instant> {
        let seen = self.seen.iter().find(|sight| sight.what == what);
        seen.map(|sight| sight.since)
    }
}

#[cfg(test)]
mod tests;
