//! The generated schema: what schemars makes of the types, in the form that the API server wants.

use schemars::Schema;
use schemars::transform::transform_subschemas;
use serde_json::{Map, Value, json};

/// Tidies a schema and all below it.
///
/// - No `null`: an absent field and a `null` one mean the same. The API server drops a `null` where the schema does not
///   say `nullable`, and so does [`crate::validate`].
/// - No `additionalProperties: false`, which structural schemas forbid; unknown fields are refused all the same.
/// - Integer formats that `OpenAPI` knows.
/// - Descriptions without the line breaks of the source.
pub(crate) fn tidy(schema: &mut Schema) {
    transform_subschemas(&mut tidy, schema);
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    take_out_null(fields);
    fields.remove("$schema");
    fields.remove("title");
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        fields.remove("additionalProperties");
    }
    if fields.get("default").is_some_and(Value::is_null) {
        fields.remove("default");
    }
    if let Some(format @ ("uint" | "uint8" | "uint16" | "uint32" | "uint64")) =
        fields.get("format").and_then(Value::as_str)
    {
        let format = if matches!(format, "uint32" | "uint64" | "uint") {
            "int64"
        } else {
            "int32"
        };
        fields.insert("format".to_owned(), json!(format));
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = unwrap_lines(text);
    }
}

/// `Option` without its `null`: from a list of types, or from a choice of two schemas.
fn take_out_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = fields.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        fields.remove("anyOf");
        for (name, value) in only {
            fields.entry(name).or_insert(value);
        }
    }
}

fn unwrap_lines(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace('`', "")
}
