use std::time::Duration;

use pawl_lock::{BackendToken, Owner, Ttl, lease::Mode};

use super::*;
use crate::backend::kubernetes::record::Held;

const WHAT: What = What::Hold(HoldId::from_bits(1));

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn record(stamp: u64) -> Record {
    let held = Held {
        hold: HoldId::from_bits(1),
        mode: Mode::Exclusive,
        token: BackendToken::MIN,
        ttl: Ttl::try_new(Duration::from_secs(5)).unwrap(),
        owner: Owner::try_new("a").unwrap(),
        since: 0,
        stamp,
    };
    let mut record = Record::default();
    record.holders.push(held);
    record
}

#[test]
fn what_stands_unchanged_is_seen_since_the_first_look() {
    let mut sights = Sights::default();
    assert_eq!(sights.since(WHAT), None);
    for second in [10, 12, 30] {
        sights.look(&record(1), at(second));
        assert_eq!(sights.since(WHAT), Some(at(10)));
    }
}

#[test]
fn a_change_and_a_return_start_anew() {
    let mut sights = Sights::default();
    sights.look(&record(1), at(10));
    sights.look(&record(2), at(20));
    assert_eq!(sights.since(WHAT), Some(at(20)));
    sights.look(&Record::default(), at(21));
    assert_eq!(sights.since(WHAT), None);
    sights.look(&record(2), at(30));
    assert_eq!(sights.since(WHAT), Some(at(30)));
}

#[test]
fn what_was_written_here_counts_from_before_the_write() {
    let mut sights = Sights::default();
    sights.look(&record(1), at(10));
    sights.tries(&[(WHAT, 2)], at(11));
    sights.look(&record(1), at(12));
    assert_eq!(sights.since(WHAT), Some(at(10)), "it is not there yet");
    sights.look(&record(2), at(15));
    assert_eq!(sights.since(WHAT), Some(at(11)));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut sights = Sights::default();
    for stamp in 0..1_000 {
        sights.tries(&[(WHAT, stamp)], at(stamp));
    }
    assert_eq!(sights.tried.len(), MOST_TRIED);
    sights.look(&record(999), at(2_000));
    assert_eq!(sights.since(WHAT), Some(at(999)));
}
