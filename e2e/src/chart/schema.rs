//! `values.schema.json`: closed, so that a value that is misspelt is refused instead of ignored.

use serde_json::{Map, Value, json};

use super::values::Field;

/// Makes the schema of these fields.
///
/// # Panics
/// If a default has no type, as `null` has not.
pub fn of(chart: &str, fields: &[Field]) -> String {
    let mut root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": format!("Values of the chart {chart}"),
        "description": "Made from values.yaml.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "enabled": {
                "description": "Not used here. A chart that contains this one may have it as its condition.",
                "type": "boolean",
            },
            "global": {
                "description": "Not used here. Helm hands the global values of a chart that contains this one to it.",
                "type": "object",
            },
        },
    });
    for field in fields {
        let (last, groups) = field.path.split_last().expect("a path has a last key");
        let mut at = &mut root;
        for group in groups {
            at = &mut at["properties"][group.as_str()];
        }
        at["properties"][last.as_str()] = Value::Object(property(field));
    }
    let mut text = serde_json::to_string_pretty(&root).expect("it is JSON");
    text.push('\n');
    text
}

fn property(field: &Field) -> Map<String, Value> {
    let mut property = Map::new();
    property.insert("description".to_owned(), field.text.clone().into());
    property.insert("type".to_owned(), type_of(field).into());
    if field.is_group {
        property.insert("additionalProperties".to_owned(), false.into());
        property.insert("properties".to_owned(), json!({}));
    } else {
        property.insert("default".to_owned(), field.default.clone());
    }
    property.extend(field.schema.clone());
    property
}

fn type_of(field: &Field) -> &'static str {
    match &field.default {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Null if field.schema.contains_key("type") => "null",
        Value::Null => panic!("{}: say its type with @schema", field.path.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::values::read, *};

    #[test]
    fn groups_are_closed_and_values_have_their_type() {
        let fields =
            read("# Group.\na:\n  # Value.\n  # @schema {\"enum\":[\"x\",\"y\"]}\n  b: x\n");
        let schema: Value = serde_json::from_str(&of("test", &fields)).unwrap();
        let group = &schema["properties"]["a"];
        assert_eq!(group["additionalProperties"], false);
        assert_eq!(
            group["properties"]["b"],
            json!({"description": "Value.", "type": "string", "default": "x", "enum": ["x", "y"]})
        );
        assert_eq!(schema["additionalProperties"], false);
    }
}
