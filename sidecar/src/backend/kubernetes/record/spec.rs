//! The part of a Lease that every program understands.

use k8s_openapi::{
    api::coordination::v1::LeaseSpec,
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use sha2::{Digest as _, Sha256};

use super::Held;

/// The spec that shows these holders. Its `renewTime` is another each time, and its duration covers every holder's ttl:
/// a program that watches the spec for changes, as client-go does, takes the lease after the last holder ended, never
/// before.
pub(super) fn of(holders: &[Held], before: &LeaseSpec, wall: i64, is_new: bool) -> LeaseSpec {
    let now = Timestamp::from_millisecond(wall).unwrap_or(Timestamp::UNIX_EPOCH);
    let last = before.renew_time.as_ref().map(|time| time.0);
    let next = last.and_then(|last| last.checked_add(SignedDuration::from_micros(1)).ok());
    let renewed = next.map_or(now, |next| next.max(now));
    let longest = holders.iter().map(|held| held.ttl.as_millis()).max();
    let seconds = longest.map_or(1, |millis| millis.div_ceil(1000));
    let transitions = before.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: identity(holders),
        lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
        acquire_time: if is_new || before.acquire_time.is_none() {
            Some(MicroTime(renewed))
        } else {
            before.acquire_time.clone()
        },
        renew_time: Some(MicroTime(renewed)),
        lease_transitions: Some(transitions.saturating_add(i32::from(is_new))),
        preferred_holder: None,
        strategy: None,
    }
}

/// The holder's name for people. The part in brackets keeps it from ever being the identity of another program, which
/// would believe that it is the leader.
fn identity(holders: &[Held]) -> Option<String> {
    let (first, others) = holders.split_first()?;
    let mut id = first.hold.to_string();
    id.truncate(8);
    let (owner, count) = (&first.owner, others.len());
    Some(if others.is_empty() {
        format!("{owner} (pawl {id})")
    } else {
        format!("{owner} and {count} more (pawl {id})")
    })
}

/// All of a spec that a program may change, as text to compare.
pub(super) fn text(spec: &LeaseSpec) -> String {
    let time = |time: &Option<MicroTime>| time.as_ref().map_or(0, |time| time.0.as_microsecond());
    let LeaseSpec {
        acquire_time,
        holder_identity,
        lease_duration_seconds,
        lease_transitions,
        preferred_holder,
        renew_time,
        strategy,
    } = spec;
    format!(
        "{} {} {} {} {} {} {}",
        time(acquire_time),
        time(renew_time),
        lease_duration_seconds.unwrap_or(0),
        lease_transitions.unwrap_or(0),
        strategy.as_deref().unwrap_or_default(),
        preferred_holder.as_deref().unwrap_or_default(),
        holder_identity.as_deref().unwrap_or_default(),
    )
}

/// A number that is another when the spec is.
pub(super) fn stamp(spec: &LeaseSpec) -> u64 {
    let digest = Sha256::digest(text(spec).as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
