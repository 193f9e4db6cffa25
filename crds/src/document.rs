//! A policy document as text: YAML or JSON, one document, no key twice.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::LockPolicy;
use crate::validate::{Violation, validate};

/// Longest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Why a document is not a policy. The texts name fields and places, never values.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Longer than [`MAX_DOCUMENT_BYTES`].
    #[error("the document is longer than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong,
    /// Nothing but space and comments.
    #[error("the document is empty")]
    Empty,
    /// Several YAML documents in one.
    #[error("there is more than one document; write each policy into a file of its own")]
    Several,
    /// Neither YAML nor JSON, or with a key twice.
    #[error("the document cannot be read: {0}")]
    Syntax(String),
    /// Readable, but not a valid policy. Never empty.
    #[error("the policy is refused: {}", list(.0))]
    Refused(Vec<Violation>),
}

impl ParseError {
    /// A word for the metric label `reason`.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Empty => "empty",
            Self::Several => "several",
            Self::Syntax(_) => "syntax",
            Self::Refused(_) => "refused",
        }
    }
}

fn list(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(Violation::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reads a policy from a file's text and validates it, see [`validate`].
///
/// A text that starts with `{` is JSON, everything else YAML.
///
/// # Errors
/// [`ParseError`]; bounded work for any input.
pub fn parse(text: &str) -> Result<LockPolicy, ParseError> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(ParseError::TooLong);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = if text.trim_start().starts_with('{') {
        json(text)?
    } else {
        yaml(text)?
    };
    if document.is_null() {
        return Err(ParseError::Empty);
    }
    validate(&document).map_err(ParseError::Refused)
}

fn json(text: &str) -> Result<Value, ParseError> {
    serde_json::from_str(text)
        .map(|Strict(value)| value)
        .map_err(|error| ParseError::Syntax(error.to_string()))
}

fn yaml(text: &str) -> Result<Value, ParseError> {
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Err(ParseError::Empty);
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Err(ParseError::Empty);
    };
    let Strict(value) =
        Strict::deserialize(first).map_err(|error| ParseError::Syntax(error.to_string()))?;
    if documents.next().is_some() {
        Err(ParseError::Several)
    } else {
        Ok(value)
    }
}

/// A value in which no object has a key twice. The usual readers keep the last one silently, and a reviewer sees the first.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed.deserialize(deserializer).map(Strict)
    }
}

struct Seed;

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value without tags")
    }

    /// What an empty YAML document is.
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "the field {} is there twice",
                    key.escape_debug()
                )));
            }
            let value = entries.next_value_seed(Seed)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
