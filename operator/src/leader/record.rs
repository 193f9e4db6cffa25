//! What is written into the Lease.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use pawl_kit::clock::Wall;

use super::DURATION;

/// Who holds it; an empty name is nobody.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let spec = lease.spec.as_ref()?;
    spec.holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

/// Taken by `identity` from whoever had it before.
pub(super) fn taken(before: Option<&LeaseSpec>, identity: &str, now: Wall) -> LeaseSpec {
    let transitions = before.and_then(|spec| spec.lease_transitions);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds()),
        acquire_time: stamp(now),
        renew_time: stamp(now),
        lease_transitions: Some(transitions.map_or(0, |count| count.saturating_add(1))),
        ..before.cloned().unwrap_or_default()
    }
}

/// Renewed by its holder.
pub(super) fn renewed(spec: &LeaseSpec, now: Wall) -> LeaseSpec {
    LeaseSpec {
        renew_time: stamp(now),
        ..spec.clone()
    }
}

/// Let go by its holder, in the way of client-go: nobody, for a second.
pub(super) fn released(spec: &LeaseSpec, now: Wall) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: stamp(now),
        ..spec.clone()
    }
}

fn seconds() -> i32 {
    i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)
}

/// For people and other programs; nothing here is decided on it.
fn stamp(now: Wall) -> Option<MicroTime> {
    Timestamp::from_millisecond(now.unix_millis())
        .ok()
        .map(MicroTime)
}
