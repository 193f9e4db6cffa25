//! What answers and events look like as JSON.

use std::time::Duration;

use pawl_kit::clock::Wall;
use pawl_lock::{FencingToken, Instant, lease::Renew};
use serde::Serialize;

use super::error::loss_detail;
use crate::engine::{Granted, HolderInfo, KeyGrant, KeyInfo, LeaseInfo, PolicyView};

/// A value as the body of an answer, or the data of an event.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::with_capacity(320);
    serde_json::to_writer(&mut body, value).expect("a vector takes everything, and keys are texts");
    body
}

/// Whole milliseconds; parts are dropped, so that what is left is never said to be more than it is.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A lease that was granted, with the time that is left at `now`.
pub(super) fn grant(granted: &Granted, is_several: bool, now: Instant) -> Vec<u8> {
    let id = granted.lease_id.to_text();
    let (mode, ttl_ms) = (granted.mode.as_str(), granted.ttl.as_millis());
    let expires_in_ms = millis(granted.deadline.left(now));
    let (valid_until, waited_ms) = (granted.valid_until, millis(granted.waited));
    match &granted.grants[..] {
        [one] if !is_several => json(&Grant {
            lease_id: &id,
            policy: granted.policy.as_str(),
            key: one.key.as_str(),
            fencing_token: one.token.get(),
            mode,
            ttl_ms,
            expires_in_ms,
            valid_until,
            waited_ms,
        }),
        several => json(&GrantOfSeveral {
            lease_id: &id,
            policy: granted.policy.as_str(),
            mode,
            ttl_ms,
            expires_in_ms,
            valid_until,
            waited_ms,
            grants: several.iter().map(part).collect(),
        }),
    }
}

/// A lease as it is.
pub(super) fn lease(info: &LeaseInfo) -> Vec<u8> {
    let (one, grants) = match &info.grants[..] {
        [one] => (Some(part(one)), None),
        several => (None, Some(several.iter().map(part).collect())),
    };
    json(&Lease {
        policy: info.policy.as_str(),
        one,
        state: state(info.is_uncertain),
        owner: info.owner.as_str(),
        mode: info.mode.as_str(),
        renew: match info.renew {
            Renew::Auto => "auto",
            Renew::Manual => "manual",
        },
        ttl_ms: info.ttl.as_millis(),
        expires_in_ms: millis(info.expires_in),
        valid_until: info.valid_until,
        granted_at: info.granted_at,
        held_for_ms: millis(info.held_for),
        grants,
    })
}

/// Who holds a key. The holder of an exclusive key stands at the top too.
pub(super) fn key(policy: &str, key: &str, info: &KeyInfo, now: Wall) -> Vec<u8> {
    let holders: Vec<Holder<'_>> = info.holders.iter().map(|info| holder(info, now)).collect();
    json(&KeyState {
        policy,
        key,
        held: !holders.is_empty(),
        first: holders.first(),
        waiters: info.waiters,
        local: info.is_local,
        holders: &holders,
    })
}

/// What a sidecar does under a policy.
pub(super) fn overview(view: &PolicyView) -> Vec<u8> {
    let leases = view.leases.iter().map(|lease| Row {
        key: lease.key.as_str(),
        owner: lease.owner.as_str(),
        mode: lease.mode.as_str(),
        state: state(lease.is_uncertain),
        fencing_token: lease.token.get(),
        held_for_ms: millis(lease.held_for),
        expires_in_ms: millis(lease.expires_in),
    });
    let holds = view.keys.iter().map(|key| Hold {
        key: key.key.as_str(),
        held: key.is_held,
        leases: key.leases,
        waiters: key.waiters,
    });
    json(&Overview {
        policy: view.name.as_str(),
        backend: view.backend,
        leases: leases.collect(),
        lease_count: view.lease_count,
        holds: holds.collect(),
        hold_count: view.key_count,
        waiters: view.waiter_count,
    })
}

/// The data of the event `queued`.
pub(super) fn queued(ahead: u32) -> Vec<u8> {
    json(&Queued {
        position: u64::from(ahead) + 1,
    })
}

/// The data of the events `renewed` and `uncertain`.
pub(super) fn extent(left: Duration, valid_until: Wall) -> Vec<u8> {
    json(&Extent {
        expires_in_ms: millis(left),
        valid_until,
    })
}

/// The data of the event `lost`.
pub(super) fn loss(reason: pawl_lock::LossReason) -> Vec<u8> {
    json(&Loss {
        reason: reason.as_str(),
        detail: loss_detail(reason),
    })
}

/// The answer of a fence that took a token.
pub(super) fn fenced(policy: &str, key: &str, token: FencingToken) -> Vec<u8> {
    json(&Fenced {
        policy,
        key,
        fencing_token: token.get(),
        highest: token.get(),
    })
}

const fn state(is_uncertain: bool) -> &'static str {
    if is_uncertain { "uncertain" } else { "held" }
}

fn part(grant: &KeyGrant) -> Part<'_> {
    Part {
        key: grant.key.as_str(),
        fencing_token: grant.token.get(),
    }
}

fn holder(info: &HolderInfo, now: Wall) -> Holder<'_> {
    Holder {
        owner: info.owner.as_str(),
        mode: info.mode.as_str(),
        fencing_token: info.token.map(FencingToken::get),
        since: info.held_for.map(|held_for| now.minus(held_for)),
        held_for_ms: info.held_for.map(millis),
        expires_in_ms: info.expires_in.map(millis),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Grant<'a> {
    lease_id: &'a str,
    policy: &'a str,
    key: &'a str,
    fencing_token: u64,
    mode: &'static str,
    ttl_ms: u32,
    expires_in_ms: u64,
    valid_until: Wall,
    waited_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GrantOfSeveral<'a> {
    lease_id: &'a str,
    policy: &'a str,
    mode: &'static str,
    ttl_ms: u32,
    expires_in_ms: u64,
    valid_until: Wall,
    waited_ms: u64,
    grants: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    key: &'a str,
    fencing_token: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lease<'a> {
    policy: &'a str,
    #[serde(flatten)]
    one: Option<Part<'a>>,
    state: &'static str,
    owner: &'a str,
    mode: &'static str,
    renew: &'static str,
    ttl_ms: u32,
    expires_in_ms: u64,
    valid_until: Wall,
    granted_at: Wall,
    held_for_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    grants: Option<Vec<Part<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyState<'a> {
    policy: &'a str,
    key: &'a str,
    held: bool,
    #[serde(flatten)]
    first: Option<&'a Holder<'a>>,
    waiters: u32,
    local: bool,
    holders: &'a [Holder<'a>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Holder<'a> {
    owner: &'a str,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Wall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_for_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview<'a> {
    policy: &'a str,
    backend: &'static str,
    leases: Vec<Row<'a>>,
    lease_count: u64,
    holds: Vec<Hold<'a>>,
    hold_count: u64,
    waiters: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    key: &'a str,
    owner: &'a str,
    mode: &'static str,
    state: &'static str,
    fencing_token: u64,
    held_for_ms: u64,
    expires_in_ms: u64,
}

#[derive(Serialize)]
struct Hold<'a> {
    key: &'a str,
    held: bool,
    leases: u32,
    waiters: u32,
}

#[derive(Serialize)]
struct Queued {
    position: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extent {
    expires_in_ms: u64,
    valid_until: Wall,
}

#[derive(Serialize)]
struct Loss {
    reason: &'static str,
    detail: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fenced<'a> {
    policy: &'a str,
    key: &'a str,
    fencing_token: u64,
    highest: u64,
}
