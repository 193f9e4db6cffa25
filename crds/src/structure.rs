//! Checks a document against the generated schema, as the API server does with strict field validation.
//!
//! It reads the schema itself, so that bounds are said once, on the types. It knows the keywords that our schema uses and
//! no others: a new one is an error at the first use, not a check that is left out.

mod check;

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Map, Value};

/// A compiled schema. It keeps no descriptions.
#[derive(Debug)]
pub(crate) enum Node {
    Object {
        fields: BTreeMap<String, Node>,
        required: Vec<String>,
    },
    List {
        items: Box<Node>,
        least: usize,
        most: usize,
        unique: bool,
    },
    Text {
        least: usize,
        most: usize,
        pattern: Option<Regex>,
        choices: Vec<String>,
    },
    Integer {
        least: i64,
        most: i64,
    },
    IntegerOrText {
        longest: usize,
        pattern: Option<Regex>,
        least: i64,
        most: i64,
    },
    /// Checked elsewhere.
    Anything,
}

/// The generated schema without its texts, defaults and rules: what is left to check a document's structure by. It lies in
/// a file because making it takes ten milliseconds, a fifth of what the sidecar has to be ready; a test holds the file to
/// the types, `PAWL_BLESS=1` renews it.
const SCHEMA: &str = include_str!("structure/schema.json");

/// A schema that says something that is not understood here.
#[derive(Debug, thiserror::Error)]
#[error("schema keyword that is not understood: {0}")]
pub(crate) struct NotUnderstood(String);

const KNOWN: [&str; 16] = [
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
];

impl Node {
    pub(crate) fn compile(schema: &Value) -> Result<Self, NotUnderstood> {
        let Value::Object(schema) = schema else {
            return Err(NotUnderstood("a schema that is no object".to_owned()));
        };
        if let Some(unknown) = schema.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(NotUnderstood(unknown.clone()));
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            return Err(NotUnderstood("nullable: true".to_owned()));
        }
        let size = |key: &str, absent: usize| {
            schema
                .get(key)
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(absent)
        };
        // Bounds of integers come back from the typed definition as floating point numbers without a fraction.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "our bounds are far below 2^53"
        )]
        let bound = |key: &str, absent: i64| {
            schema
                .get(key)
                .and_then(Value::as_f64)
                .map_or(absent, |n| n as i64)
        };
        let pattern = match schema.get("pattern").and_then(Value::as_str) {
            Some(pattern) => {
                Some(Regex::new(pattern).map_err(|_| NotUnderstood(format!("pattern {pattern}")))?)
            }
            None => None,
        };
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            return Ok(Self::IntegerOrText {
                longest: size("maxLength", usize::MAX),
                pattern,
                least: bound("minimum", i64::MIN),
                most: bound("maximum", i64::MAX),
            });
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => Self::object(schema),
            Some("array") => Ok(Self::List {
                items: Box::new(Self::compile(schema.get("items").unwrap_or(&Value::Null))?),
                least: size("minItems", 0),
                most: size("maxItems", usize::MAX),
                unique: schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set"),
            }),
            Some("string") => {
                let choices = schema
                    .get("enum")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                Ok(Self::Text {
                    least: size("minLength", 0),
                    most: size("maxLength", usize::MAX),
                    pattern,
                    choices: choices
                        .filter_map(Value::as_str)
                        .map(str::to_owned)
                        .collect(),
                })
            }
            Some("integer") => Ok(Self::Integer {
                least: bound("minimum", i64::MIN),
                most: bound("maximum", i64::MAX),
            }),
            other => Err(NotUnderstood(format!("type {other:?}"))),
        }
    }

    /// The schema of a policy document.
    pub(crate) fn root() -> Result<Self, NotUnderstood> {
        let schema = serde_json::from_str(SCHEMA)
            .map_err(|_| NotUnderstood("the schema's file".to_owned()))?;
        let mut root = Self::compile(&schema)?;
        if let Self::Object { fields, .. } = &mut root {
            // What every resource has and no schema says; checked before, with texts of their own.
            for name in ["apiVersion", "kind", "metadata"] {
                fields.insert(name.to_owned(), Self::Anything);
            }
        }
        Ok(root)
    }

    fn object(schema: &Map<String, Value>) -> Result<Self, NotUnderstood> {
        let mut fields = BTreeMap::new();
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            fields.insert(name.clone(), Self::compile(field)?);
        }
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        Ok(Self::Object {
            fields,
            required: required
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Drops fields that are `null`: they count as absent.
    pub(crate) fn drop_nulls(&self, value: &mut Value) {
        match (self, value) {
            (Self::Object { fields, .. }, Value::Object(object)) => {
                object.retain(|name, value| !(value.is_null() && fields.contains_key(name)));
                for (name, value) in object {
                    if let Some(field) = fields.get(name) {
                        field.drop_nulls(value);
                    }
                }
            }
            (Self::List { items, .. }, Value::Array(list)) => {
                for value in list {
                    items.drop_nulls(value);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
