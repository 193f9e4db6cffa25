//! Bodies: small JSON objects, read strictly.
//!
//! An object is read into its fields first and looked at field by field then, so that an answer can name the field
//! that is wrong, and what would be right.

use std::{borrow::Cow, collections::HashSet, fmt, str::FromStr, time::Duration};

use pawl_crds::ApiDuration;
use pawl_lock::name::InvalidName;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Why a body is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// It is not JSON.
    #[error("{0}")]
    NotJson(String),
    /// It is JSON, but no object.
    #[error("the body is not a JSON object; write for example {{}}")]
    NotAnObject,
    /// A field is not known.
    #[error("{field:?} is not known; known are {}", known.join(", "))]
    Unknown {
        /// Which.
        field: String,
        /// What is known.
        known: &'static [&'static str],
    },
    /// A field is there twice.
    #[error("{field:?} is there twice")]
    Duplicate {
        /// Which.
        field: String,
    },
    /// A field that must be there is not.
    #[error("{field} is missing; write for example {example}")]
    Missing {
        /// Which.
        field: &'static str,
        /// What is right.
        example: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("{field} {problem}; write for example {example}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong, as the rest of a sentence that begins with the field.
        problem: String,
        /// What is right.
        example: &'static str,
    },
}

/// The fields of an object, each once, all of them known.
pub type Fields<'a> = Vec<(Cow<'a, str>, Given<'a>)>;

/// The fields of a body. An empty body has none: everything has a default.
///
/// # Errors
/// [`BodyError`] for what is no object, and for unknown or duplicate fields.
pub fn fields<'a>(body: &'a [u8], known: &'static [&'static str]) -> Result<Fields<'a>, BodyError> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    // The whole of it, also what serde_json skips.
    let body = std::str::from_utf8(body)
        .map_err(|_| BodyError::NotJson("the body is not UTF-8".to_owned()))?;
    let fields = match serde_json::from_str(body) {
        Ok(Given::Object(fields)) => fields,
        Ok(_) => return Err(BodyError::NotAnObject),
        Err(error) => return Err(BodyError::NotJson(error.to_string())),
    };
    let mut seen = HashSet::with_capacity(fields.len());
    for (field, _) in &fields {
        if !known.contains(&field.as_ref()) {
            let field = shown(field);
            return Err(BodyError::Unknown { field, known });
        }
        if !seen.insert(field.as_ref()) {
            let field = shown(field);
            return Err(BodyError::Duplicate { field });
        }
    }
    Ok(fields)
}

/// A name from outside as it may stand in an answer.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A JSON value, as far as any field of this API looks at it.
#[derive(Debug)]
pub enum Given<'a> {
    /// `null`.
    Null,
    /// `true` or `false`; no field is one.
    Bool,
    /// As a double.
    Number(f64),
    /// Unescaped.
    Text(Cow<'a, str>),
    /// Of the object's fields, lists of plain values.
    List(Vec<Given<'a>>),
    /// The whole body.
    Object(Fields<'a>),
    /// An object or a list inside of another value, which no field has.
    Nested,
}

impl Given<'_> {
    /// A duration such as `10s`.
    pub fn duration(
        &self,
        field: &'static str,
        example: &'static str,
    ) -> Result<Duration, BodyError> {
        let duration = ApiDuration::from_str(self.text(field, example)?);
        let duration =
            duration.map_err(|why| invalid(field, format!("is refused: {why}"), example))?;
        Ok(duration.as_std())
    }

    /// A text.
    pub fn text(&self, field: &'static str, example: &'static str) -> Result<&str, BodyError> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(invalid(
                field,
                format!("is {} and not a text", other.kind()),
                example,
            )),
        }
    }

    /// One of some words.
    pub fn word<T: Copy>(
        &self,
        field: &'static str,
        words: &[(&'static str, T)],
        example: &'static str,
    ) -> Result<T, BodyError> {
        let text = self.text(field, example)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            invalid(field, format!("is none of {}", words.join(", ")), example)
        })
    }

    /// A whole number from `least` to `most`, both exact as doubles.
    pub fn whole(
        &self,
        field: &'static str,
        least: u64,
        most: u64,
        example: &'static str,
    ) -> Result<u64, BodyError> {
        let Self::Number(number) = self else {
            let problem = format!("is {} and not a number", self.kind());
            return Err(invalid(field, problem, example));
        };
        #[expect(clippy::cast_precision_loss, reason = "bounds are below 2^53")]
        let range = least as f64..=most as f64;
        if range.contains(number) && number.fract() == 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and in a range of u64"
            )]
            let number = *number as u64;
            return Ok(number);
        }
        Err(invalid(
            field,
            format!("is not a whole number from {least} to {most}"),
            example,
        ))
    }

    /// A list of texts.
    pub fn texts(
        &self,
        field: &'static str,
        example: &'static str,
    ) -> Result<impl Iterator<Item = Result<&str, BodyError>>, BodyError> {
        match self {
            Self::List(list) => Ok(list.iter().map(move |item| item.text(field, example))),
            other => Err(invalid(
                field,
                format!("is {} and not a list", other.kind()),
                example,
            )),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) | Self::Nested => "nested",
        }
    }
}

/// A field that is wrong.
pub(super) const fn invalid(
    field: &'static str,
    problem: String,
    example: &'static str,
) -> BodyError {
    BodyError::Invalid {
        field,
        problem,
        example,
    }
}

/// A field that is no name.
pub(super) fn invalid_name(
    field: &'static str,
    why: InvalidName,
    example: &'static str,
) -> BodyError {
    invalid(field, format!("is refused: {why}"), example)
}

impl<'de: 'a, 'a> Deserialize<'de> for Given<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader { depth: 0 })
    }
}

/// How deep values are kept: the object, its fields' lists, their items.
const KEPT_DEPTH: u8 = 2;

struct Reader {
    depth: u8,
}

impl<'de> de::DeserializeSeed<'de> for Reader {
    type Value = Given<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Given<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Given::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Given::Bool)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Given::Number(number))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers that a double cannot hold are out of every range here"
    )]
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Given::Number(number as f64))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers that a double cannot hold are out of every range here"
    )]
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Given::Number(number as f64))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Given::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Given::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        if self.depth >= KEPT_DEPTH {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Given::Nested);
        }
        let mut items = Vec::new();
        let depth = self.depth + 1;
        while let Some(item) = list.next_element_seed(Reader { depth })? {
            items.push(item);
        }
        Ok(Given::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        if self.depth > 0 {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Given::Nested);
        }
        let mut fields = Vec::new();
        let depth = self.depth + 1;
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value_seed(Reader { depth })?));
        }
        Ok(Given::Object(fields))
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
