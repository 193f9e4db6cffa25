//! The generated definition: golden, and fit for an API server.

use std::path::Path;

use kube::CustomResourceExt;
use pawl_crds::LockPolicy;
use serde_json::Value;

/// Compares a file of the repository with what the types make; `PAWL_BLESS=1` writes it instead.
fn golden(path: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("PAWL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "{} differs from the types; look at the change, then PAWL_BLESS=1",
        path.display()
    );
}

/// Bounds come out of the typed definition as `10.0`; people write `10`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0) {
                *value = format!("{float:.0}").parse::<i64>().unwrap().into();
            }
        }
        _ => {}
    }
}

#[test]
fn the_definition_is_what_the_types_make() {
    let mut definition = serde_json::to_value(LockPolicy::crd()).unwrap();
    whole_numbers(&mut definition);
    let yaml = serde_yaml::to_string(&definition).unwrap();
    golden(
        "lockpolicies.pawl.dev.yaml",
        &format!("# Made from the types in crds/src; renew it with PAWL_BLESS=1.\n{yaml}"),
    );
}
