use kube::CustomResourceExt;
use serde_json::json;

use super::*;
use crate::LockPolicy;

/// The definition's schema, less what has no bearing on a document's structure.
fn made() -> Value {
    let definition = serde_json::to_value(LockPolicy::crd()).unwrap();
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["properties"]
        .as_object_mut()
        .unwrap()
        .remove("status");
    schema.as_object_mut().unwrap().remove("title");
    strip(&mut schema);
    schema
}

fn strip(schema: &mut Value) {
    let fields = schema.as_object_mut().unwrap();
    fields.retain(|keyword, _| {
        !["description", "default", "x-kubernetes-validations"].contains(&keyword.as_str())
    });
    for field in fields
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Map::values_mut)
    {
        strip(field);
    }
    if let Some(items) = fields.get_mut("items") {
        strip(items);
    }
}

#[test]
fn the_schemas_file_is_what_the_types_make() {
    let made = format!("{}\n", serde_json::to_string_pretty(&made()).unwrap());
    if std::env::var_os("PAWL_BLESS").is_some_and(|value| value == "1") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/structure/schema.json");
        std::fs::write(path, &made).unwrap();
    } else {
        assert!(
            SCHEMA == made,
            "run this test with PAWL_BLESS=1, then all tests again"
        );
    }
}

#[test]
fn the_schema_compiles() {
    let node = Node::root().unwrap();
    let Node::Object { fields, required } = node else {
        panic!("the root is no object");
    };
    assert_eq!(required, ["spec"]);
    assert_eq!(
        fields.keys().collect::<Vec<_>>(),
        ["apiVersion", "kind", "metadata", "spec"]
    );
}

#[test]
fn a_keyword_that_is_not_understood_is_an_error() {
    for schema in [
        json!({"type": "string", "format2": "x"}),
        json!({"type": "object", "properties": {"a": {"type": "object", "additionalProperties": {"type": "string"}}}}),
        json!({"type": "string", "nullable": true}),
        json!({"type": "string", "pattern": "("}),
        json!({"type": "float"}),
        json!(true),
    ] {
        assert!(Node::compile(&schema).is_err(), "{schema}");
    }
}
