//! The documents of `docs/examples` are what they are examples of.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;

use pawl_crds::parse;

/// Every backend that is built, by the name of its file.
const BUILT: [&str; 6] = [
    "kubernetes.yaml",
    "memory.yaml",
    "postgres-row.yaml",
    "postgres.yaml",
    "redis.yaml",
    "redlock.yaml",
];

#[test]
fn every_example_is_a_valid_policy_of_the_backend_it_is_named_after() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut files = BTreeSet::new();
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let policy = parse(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let backend = serde_json::to_value(&policy.spec.backend).unwrap();
        let backend = backend.as_object().unwrap();
        let stem = file.trim_end_matches(".yaml");
        let expected = stem.split('-').next().unwrap();
        assert!(backend.contains_key(expected), "{file}: {backend:?}");
        // They can all be applied to one namespace.
        assert!(
            names.insert(policy.metadata.name.unwrap()),
            "{file}: its name is taken"
        );
        files.insert(file);
    }
    assert_eq!(files, BTreeSet::from(BUILT.map(str::to_owned)));
}
