use proptest::prelude::*;
use serde_json::json;

use super::*;

const EVERYTHING: &str = include_str!("../../testdata/policies/everything.yaml");

fn everything() -> Value {
    serde_yaml::from_str(EVERYTHING).unwrap()
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| places(value, &format!("{at}/{name}"), into)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| places(value, &format!("{at}/{index}"), into));
        }
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_i64..12).prop_map(Value::from),
        any::<f64>().prop_map(
            |float| serde_json::Number::from_f64(float).map_or(Value::Null, Value::Number)
        ),
        "[ -~]{0,12}".prop_map(Value::from),
        "[0-9]{1,5}(h|m|s|ms)".prop_map(Value::from),
        "rediss?://[a-z]{1,3}:[1-9]".prop_map(Value::from),
        prop::sample::select(vec![
            "Fifo",
            "Any",
            "Full",
            "None",
            "Auto",
            "Token",
            "Correctness",
            "Row"
        ])
        .prop_map(Value::from),
        Just(json!({})),
        Just(json!([])),
        Just(json!({"name": "x"})),
        Just(json!(["a", "b"])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// What the schema lets through, the types can read: no field's bounds in the schema are wider than its type. And what
    /// is accepted reads as the same when it is written and read again.
    #[test]
    fn the_types_read_what_the_schema_lets_through(
        changes in prop::collection::vec((any::<prop::sample::Index>(), odd_value()), 1..4),
    ) {
        let mut document = everything();
        for (place, value) in changes {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            let place = &all[place.index(all.len())];
            if let Some(at) = document.pointer_mut(place) {
                *at = value;
            }
        }
        match validate(&document) {
            Ok(policy) => {
                let again = serde_json::to_value(&policy).unwrap();
                prop_assert_eq!(validate(&again), Ok(policy));
            }
            Err(violations) => {
                prop_assert!(!violations.is_empty());
                for violation in violations {
                    let whole = violation.message == "must be an object";
                    prop_assert!(!violation.path.is_empty() || whole, "{}", violation.message);
                    prop_assert!(!violation.to_string().chars().any(char::is_control));
                }
            }
        }
    }
}

#[test]
fn each_fault_is_told_at_once() {
    let mut document = everything();
    document["apiVersion"] = json!("v1");
    document["metadata"]["name"] = json!("A");
    document["spec"]["lease"]["ttl"] = json!("1d");
    document["spec"]["keys"]["maxHeld"] = json!(0);
    let paths: Vec<_> = validate(&document)
        .unwrap_err()
        .into_iter()
        .map(|violation| violation.path)
        .collect();
    assert_eq!(
        paths,
        [
            "apiVersion",
            "metadata.name",
            "spec.keys.maxHeld",
            "spec.lease.ttl"
        ]
    );
}

#[test]
fn a_document_that_is_no_object_is_told_so() {
    for document in [json!(null), json!([]), json!("x"), json!(1)] {
        assert_eq!(
            validate(&document).unwrap_err()[0].to_string(),
            "must be an object"
        );
    }
}

#[test]
fn strange_field_names_cannot_forge_a_log_line() {
    let mut document = everything();
    document["spec"]["x\n2026 INFO granted"] = json!(1);
    document["metadata"]["y\u{1b}[31m"] = json!(1);
    let violations = validate(&document).unwrap_err();
    assert_eq!(violations.len(), 2);
    assert!(
        violations
            .iter()
            .all(|violation| !violation.to_string().chars().any(char::is_control))
    );
}
