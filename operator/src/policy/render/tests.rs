use super::*;
use serde_json::json;

fn policy(generation: i64) -> ObservedPolicy {
    serde_json::from_value(json!({
        "apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy",
        "metadata": {
            "name": "payments", "namespace": "shop", "generation": generation, "uid": "u-1",
            "resourceVersion": "81723", "annotations": {"note": "not for sidecars"},
        },
        "spec": {"backend": {"memory": {}}, "lease": {"ttl": "10s"}},
        "status": {"backend": "memory"},
    }))
    .unwrap()
}

#[test]
fn a_sidecar_reads_what_is_rendered() {
    let map = config_map(&policy(4));
    assert_eq!(map.metadata.name.as_deref(), Some("pawl-policy-payments"));
    let data = map.data.as_ref().unwrap();
    let known = pawl_crds::parse(&data["payments.yaml"]).unwrap();
    assert_eq!(known.metadata.generation, Some(4));
    assert_eq!(known.metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(known.spec.lease.ttl.to_string(), "10s");
    let text = &data["payments.yaml"];
    // These change without the spec: each change would be written to every pod.
    assert!(!text.contains("81723") && !text.contains("status") && !text.contains("note"));
    assert_eq!(generation(&map), Some(4));
    assert_eq!(policy_of(&map), Some("payments"));
}

#[test]
fn it_goes_with_its_policy_and_blocks_nothing() {
    let map = config_map(&policy(1));
    let owners = map.metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].uid.as_str()), (1, "u-1"));
    assert_eq!(owners[0].block_owner_deletion, None);
}

#[test]
fn what_differs_is_written_again() {
    let wanted = config_map(&policy(4));
    assert!(is_current(&wanted, &wanted));
    let mut there = wanted.clone();
    there.metadata.resource_version = Some("9".to_owned());
    there
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .insert("team".into(), "a".into());
    assert!(is_current(&there, &wanted), "what others add is theirs");
    assert!(!is_current(&config_map(&policy(3)), &wanted));
    let mut edited = wanted.clone();
    edited
        .data
        .as_mut()
        .unwrap()
        .insert("more.yaml".into(), String::new());
    assert!(!is_current(&edited, &wanted));
    let mut disowned = wanted.clone();
    disowned.metadata.owner_references = None;
    assert!(!is_current(&disowned, &wanted));
    let mut unlabelled = wanted.clone();
    unlabelled.metadata.labels = None;
    assert!(!is_current(&unlabelled, &wanted));
    assert_eq!(policy_of(&unlabelled), None);
}

#[test]
fn a_config_map_under_another_name_is_no_policy() {
    let mut map = config_map(&policy(1));
    map.metadata.name = Some("other".to_owned());
    assert_eq!(policy_of(&map), None);
}

#[test]
fn the_sum_tells_every_change() {
    let (one, two) = (config_map(&policy(1)), config_map(&policy(2)));
    let sums = [
        sum([("a", Some(&one))]),
        sum([("a", Some(&two))]),
        sum([("b", Some(&one))]),
        sum([("a", None)]),
        sum([]),
        sum([("a", Some(&one)), ("b", None)]),
        sum([("a", None), ("b", Some(&one))]),
    ];
    for (n, first) in sums.iter().enumerate() {
        assert_eq!(first.len(), 16);
        assert!(!sums[..n].contains(first), "{n}");
    }
    assert_eq!(sums[0], sum([("a", Some(&one))]));
}
