//! A LockPolicy, as a file that a sidecar reads and as an object that the operator watches.

use pawl_crds::{LockPolicy, MAX_DOCUMENT_BYTES, parse};
use pawl_operator::policy::{ObservedPolicy, render, validate::validate};
use pawl_sidecar::{engine::Origin, policy::settings};
use serde_json::Value;

/// A text that is a policy can be served, and means the same after it was written out. What the operator hands on is what a
/// sidecar reads, and it is the same policy.
pub fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match parse(text) {
        Ok(policy) => accepted(&policy),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(raw) = serde_json::from_str(text) {
        watched(raw);
    } else if text.len() <= MAX_DOCUMENT_BYTES
        && let Ok(raw) = serde_yaml::from_str(text)
    {
        watched(raw);
    }
}

fn accepted(policy: &LockPolicy) {
    let settings = settings(policy, Origin::default()).expect("what is valid can be served");
    assert_eq!(
        Some(settings.name.as_str()),
        policy.metadata.name.as_deref()
    );
    assert!(settings.ttl <= settings.max_ttl && settings.wait <= settings.max_wait);
    let written = serde_json::to_string(policy).unwrap();
    // Defaults that are written out may make it too long for a file.
    if written.len() <= MAX_DOCUMENT_BYTES {
        let again = parse(&written).expect("what was written is a policy");
        assert_eq!(again.spec, policy.spec);
    }
}

fn watched(raw: Value) {
    let Ok(observed) = serde_json::from_value::<ObservedPolicy>(raw) else {
        return;
    };
    let _ = observed.status();
    if validate(&observed).fault.is_some() {
        return;
    }
    let map = render::config_map(&observed);
    assert_eq!(render::generation(&map), Some(observed.generation()));
    assert!(render::is_current(&map, &map));
    let document = map.data.unwrap().into_values().next().unwrap();
    let read = parse(&document).expect("sidecars read what they are given");
    let known = pawl_crds::validate(&observed.document()).unwrap();
    assert_eq!(read.spec, known.spec);
    accepted(&read);
}
