//! A follower's view of the Lease: since when it has stood unchanged, on its own clock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use pawl_lock::Instant;

use super::{DURATION, record};

/// Longest duration that is believed of a foreign holder: a typing error must not keep everybody out for ever.
const LONGEST: Duration = Duration::from_mins(10);

/// What a follower does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Move {
    /// There is no object: make it.
    Create,
    /// Nobody holds it, its holder is over, or it is ours: write it.
    Take,
    /// Somebody holds it.
    Wait,
}

/// The last change that was seen.
#[derive(Debug, Default)]
pub(super) struct Sighting(Option<(LeaseSpec, Instant)>);

impl Sighting {
    /// Looks at what is there at `now`. A change of the spec begins the holder's time anew, from when it was *seen*: it
    /// was written before, so the holder counts from earlier and is over first.
    pub(super) fn judge(&mut self, seen: Option<&Lease>, identity: &str, now: Instant) -> Move {
        let Some(lease) = seen else {
            self.0 = None;
            return Move::Create;
        };
        let Some(holder) = record::holder(lease) else {
            return Move::Take;
        };
        if holder == identity {
            return Move::Take;
        }
        let spec = lease.spec.clone().unwrap_or_default();
        match &self.0 {
            Some((last, since)) if *last == spec => {
                if now.saturating_since(*since) >= duration(&spec) {
                    Move::Take
                } else {
                    Move::Wait
                }
            }
            _ => {
                self.0 = Some((spec, now));
                Move::Wait
            }
        }
    }
}

/// What the holder was promised: never less than our own, since a holder counts on that.
fn duration(spec: &LeaseSpec) -> Duration {
    let written = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let written = written.map_or(DURATION, Duration::from_secs);
    written.clamp(DURATION, LONGEST)
}
