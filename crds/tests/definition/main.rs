//! The generated files: golden, complete, and bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod reference;

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
        "{} differs from the types; look at the change, then run the test again with PAWL_BLESS=1",
        path.display()
    );
}

fn definition() -> Value {
    let mut definition = serde_json::to_value(LockPolicy::crd()).unwrap();
    whole_numbers(&mut definition);
    definition
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

fn root(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

#[test]
fn the_definition_is_what_the_types_make() {
    let yaml = serde_yaml::to_string(&definition()).unwrap();
    golden(
        "lockpolicies.pawl.dev.yaml",
        &format!(
            "# Made from the types in crds/src; the test `definition` renews it with PAWL_BLESS=1.\n{yaml}"
        ),
    );
}

#[test]
fn the_reference_is_what_the_types_make() {
    golden("../docs/policy.md", &reference::page(root(&definition())));
}

#[test]
fn the_columns_are_those_of_the_contract() {
    let definition = definition();
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap();
    let names: Vec<_> = columns
        .iter()
        .map(|column| column["name"].as_str().unwrap().to_uppercase())
        .collect();
    assert_eq!(names, ["READY", "BACKEND", "ORDER", "TTL", "PODS", "AGE"]);
    assert_eq!(
        definition["spec"]["names"]["shortNames"],
        serde_json::json!(["lp"])
    );
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    assert_eq!(
        definition["spec"]["versions"][0]["subresources"],
        serde_json::json!({"status": {}})
    );
}

/// What has no bound has no estimate of its rules' cost, and grows in etcd without end.
#[test]
fn every_field_is_described_and_bounded() {
    let mut faults = Vec::new();
    let mut fields = 0;
    check_field(root(&definition()), "", &mut fields, &mut faults);
    assert!(fields > 100, "only {fields} fields found");
    assert_eq!(faults, Vec::<String>::new());
}

fn check_field(schema: &Value, path: &str, fields: &mut usize, faults: &mut Vec<String>) {
    let mut need = |keyword: &str| {
        if schema.get(keyword).is_none() {
            faults.push(format!("{path} has no {keyword}"));
        }
    };
    match schema["type"].as_str() {
        Some("string") if schema["enum"].is_array() || schema["format"] == "date-time" => {}
        Some("string") => need("maxLength"),
        Some("array") => {
            need("maxItems");
            need("x-kubernetes-list-type");
            check_field(&schema["items"], &format!("{path}[]"), fields, faults);
        }
        Some("integer") => {
            need("minimum");
            // Generations are the API server's and may grow as they like.
            if !path.ends_with("observedGeneration") {
                need("maximum");
            }
        }
        Some("object") => {}
        other => {
            assert_eq!(
                (other, &schema["x-kubernetes-int-or-string"]),
                (None, &Value::Bool(true)),
                "{path}"
            );
            need("maxLength");
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        *fields += 1;
        let text = field["description"].as_str().unwrap_or_default();
        if text.len() < 15 || !text.ends_with('.') || text.contains('\n') || text.contains('`') {
            faults.push(format!("{path} is not described: {text:?}"));
        }
        check_field(field, &path, fields, faults);
    }
}

/// A default that the description does not name, or names otherwise, misleads readers of `kubectl explain`.
#[test]
fn every_default_is_in_the_description() {
    let mut faults = Vec::new();
    let definition = definition();
    check_default(
        &root(&definition)["properties"]["spec"],
        "spec",
        &mut faults,
    );
    assert_eq!(faults, Vec::<String>::new());
}

fn check_default(schema: &Value, path: &str, faults: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let text = field["description"].as_str().unwrap_or_default();
        let said = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            Value::String(default) if default.is_empty() => "Default empty".to_owned(),
            Value::String(default) => format!("Default {default}"),
            Value::Array(_) => "Default: ".to_owned(),
            default => format!("Default {default}"),
        };
        if !text.contains(&said) {
            faults.push(format!("{path} does not say {said:?}"));
        }
        if field["default"].is_null() && text.contains("Default ") {
            faults.push(format!("{path} promises a default that it has not"));
        }
        check_default(field, &path, faults);
    }
}
