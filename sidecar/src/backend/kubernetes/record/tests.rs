use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use pawl_lock::{Namespace, PolicyName};
use proptest::prelude::*;

use super::*;
use crate::backend::Scope;

fn names() -> Names {
    let policy = PolicyName::try_new("jobs").unwrap();
    let scope = Scope::of(&Namespace::try_new("team").unwrap(), &policy);
    Names::new(scope, &policy)
}

fn key() -> Key {
    Key::try_new("report").unwrap()
}

fn held(bits: u128, mode: Mode, ttl_millis: u64) -> Held {
    Held {
        hold: HoldId::from_bits(bits),
        mode,
        token: BackendToken::try_new(7).unwrap(),
        ttl: Ttl::try_new(Duration::from_millis(ttl_millis)).unwrap(),
        owner: Owner::try_new("worker \"1\"").unwrap(),
        since: 1_000,
        stamp: 3,
    }
}

fn written(record: &mut Record) -> Lease {
    let mut lease = Lease::default();
    record.write(&mut lease, &names(), &key(), 5_000).unwrap();
    lease
}

fn holding(holders: Vec<Held>) -> Record {
    let mut record = Record {
        holders,
        token: 9,
        ..Record::default()
    };
    record.show_holders(5_000, true);
    record
}

fn read(lease: &Lease) -> Result<Record, Garbled> {
    Record::read(lease, &names(), &key())
}

fn annotate(lease: &mut Lease, name: &str, value: &str) {
    let annotations = lease.metadata.annotations.as_mut().unwrap();
    annotations.insert(name.to_owned(), value.to_owned());
}

#[test]
fn what_is_written_is_read() {
    let mut record = holding(vec![held(1, Mode::Exclusive, 7_500)]);
    record.fence = 12;
    record.places.push(Waiting {
        hold: HoldId::from_bits(2),
        mode: Mode::Shared,
        since: 4_000,
        keep: Duration::from_secs(15),
        stamp: 1,
    });
    let read = read(&written(&mut record)).unwrap();
    assert_eq!(
        (&read.holders, &read.places),
        (&record.holders, &record.places)
    );
    assert_eq!((read.token, read.fence, read.touched), (9, 12, 5_000));
    assert_eq!(read.foreign(), None);
}

#[test]
fn every_write_changes_the_object() {
    let mut record = holding(Vec::new());
    let first = written(&mut record);
    let mut again = read(&first).unwrap();
    assert_ne!(
        written(&mut again),
        first,
        "else its version would stay, and a late write would reach it"
    );
}

#[test]
fn another_program_is_seen_in_the_spec() {
    let mut lease = written(&mut holding(vec![held(1, Mode::Exclusive, 7_500)]));
    let spec = lease.spec.as_mut().unwrap();
    spec.holder_identity = Some("controller-0".to_owned());
    spec.lease_duration_seconds = Some(15);
    let taken = read(&lease).unwrap();
    let foreign = taken.foreign().unwrap();
    assert_eq!(
        (foreign.identity.as_str(), foreign.duration.as_secs()),
        ("controller-0", 15)
    );
    // A renewal of it is a change.
    let stamp = |record: &Record| {
        record
            .stamps()
            .find(|(what, _)| *what == What::Foreign)
            .unwrap()
            .1
    };
    let before = stamp(&taken);
    let spec = lease.spec.as_mut().unwrap();
    spec.renew_time = Some(MicroTime(
        k8s_openapi::jiff::Timestamp::from_second(77).unwrap(),
    ));
    assert_ne!(stamp(&read(&lease).unwrap()), before);
    lease.spec.as_mut().unwrap().holder_identity = None;
    assert_eq!(read(&lease).unwrap().foreign(), None, "it let go");
}

#[test]
fn an_object_without_annotations_is_another_programs() {
    let record = read(&Lease::default()).unwrap();
    assert!(record.holders.is_empty() && record.foreign().is_none());
}

#[test]
fn the_spec_covers_the_longest_ttl_and_changes_with_each_renewal() {
    let shared = |bits, ttl| held(bits, Mode::Shared, ttl);
    let mut record = holding(vec![shared(1, 5_000), shared(2, 60_001), shared(3, 5_000)]);
    let spec = written(&mut record).spec.unwrap();
    assert_eq!(spec.lease_duration_seconds, Some(61));
    assert!(spec.holder_identity.unwrap().contains("and 2 more"));
    // Also when the clock went back.
    record.show_holders(1, false);
    let next = written(&mut record).spec.unwrap();
    assert!(next.renew_time > spec.renew_time);
    assert_eq!(
        (next.acquire_time, next.lease_transitions),
        (spec.acquire_time, Some(1))
    );
}

#[test]
fn edits_are_found() {
    let good = written(&mut holding(vec![held(1, Mode::Exclusive, 7_500)]));
    assert!(read(&good).is_ok());
    for (name, value) in [
        ("pawl.dev/token", "8"),
        ("pawl.dev/token", "0"),
        ("pawl.dev/token", "9e3"),
        ("pawl.dev/fence", "1"),
        ("pawl.dev/lock", ""),
        ("pawl.dev/lock", "[]"),
    ] {
        let mut edited = good.clone();
        annotate(&mut edited, name, value);
        assert!(
            matches!(read(&edited), Err(Garbled::Text(_))),
            "{name} {value}"
        );
    }
    let state = good.metadata.annotations.as_ref().unwrap()["pawl.dev/lock"].clone();
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("\"version\":1", "\"version\":1,\"more\":1"),
        ("\"token\":7", "\"token\":70"),
        ("\"ttlMs\":7500", "\"ttlMs\":1"),
        ("\"owner\":\"worker", "\"owner\":\"\\nworker"),
    ] {
        assert!(state.contains(from), "{state}");
        let mut edited = good.clone();
        annotate(&mut edited, "pawl.dev/lock", &state.replace(from, to));
        assert!(matches!(read(&edited), Err(Garbled::Text(_))), "{to}");
    }
    let mut others = good.clone();
    annotate(&mut others, "pawl.dev/key", "other");
    assert!(matches!(read(&others), Err(Garbled::OtherKey(_))));
}

#[test]
fn holders_that_exclude_each_other_are_an_error() {
    for pair in [
        [Mode::Exclusive, Mode::Exclusive],
        [Mode::Shared, Mode::Exclusive],
    ] {
        let holders = vec![held(1, pair[0], 5_000), held(2, pair[1], 5_000)];
        assert!(read(&written(&mut holding(holders))).is_err());
    }
    let twice = vec![held(1, Mode::Shared, 5_000), held(1, Mode::Shared, 5_000)];
    assert!(read(&written(&mut holding(twice))).is_err());
}

#[test]
fn the_most_that_a_record_holds_fits_into_an_object() {
    let owner = Owner::try_new(&"\"".repeat(Owner::MAX_LEN)).unwrap();
    let holders = (0..MAX_HOLDERS as u128).map(|bits| Held {
        owner: owner.clone(),
        ..held(u128::MAX - bits, Mode::Shared, 3_600_000)
    });
    let mut record = holding(holders.collect());
    record.places = (0..MAX_PLACES as u128)
        .map(|bits| Waiting {
            hold: HoldId::from_bits(bits),
            mode: Mode::Shared,
            since: i64::MAX,
            keep: Duration::from_hours(1),
            stamp: u64::MAX,
        })
        .collect();
    let lease = written(&mut record);
    assert!(read(&lease).is_ok());
    record.holders.push(held(5, Mode::Shared, 5_000));
    let more = record.write(&mut Lease::default(), &names(), &key(), 0);
    assert_eq!(more, Err(NoRoom::Holders));
}

proptest! {
    /// Whatever stands in the annotations, it is read without a panic, and never as a free key with a lower token.
    #[test]
    fn anything_is_read_or_refused(name in "pawl\\.dev/(lock|token|fence|key|scope)", value in ".{0,60}") {
        let mut lease = written(&mut holding(vec![held(1, Mode::Exclusive, 7_500)]));
        annotate(&mut lease, &name, &value);
        if let Ok(record) = read(&lease) {
            prop_assert_eq!((record.holders.len(), record.token), (1, 9));
        }
    }
}
