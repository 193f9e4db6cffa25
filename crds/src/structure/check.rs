//! What is wrong with a value, by a compiled schema.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Map, Number, Value};

use super::Node;
use crate::ApiDuration;
use crate::validate::{Violation, ViolationReason};

impl Node {
    /// Adds what is wrong with `value`, which lies at `path`.
    pub(crate) fn check(&self, value: &Value, path: &str, wrong: &mut Vec<Violation>) {
        match (self, value) {
            (Self::Object { fields, required }, Value::Object(object)) => {
                check_object(fields, required, object, path, wrong);
            }
            (
                Self::List {
                    items,
                    least,
                    most,
                    unique,
                },
                Value::Array(list),
            ) => {
                check_length(list.len(), *least, *most, "items", path, wrong);
                check_items(items, list, *unique, path, wrong);
            }
            (
                Self::Text {
                    least,
                    most,
                    pattern,
                    choices,
                },
                Value::String(text),
            ) => {
                if !choices.is_empty() && !choices.contains(text) {
                    wrong.push(invalid(
                        path,
                        format!("must be one of {}", choices.join(", ")),
                    ));
                }
                check_length(
                    text.chars().count(),
                    *least,
                    *most,
                    "characters",
                    path,
                    wrong,
                );
                check_pattern(text, pattern.as_ref(), path, wrong);
            }
            (
                Self::IntegerOrText {
                    longest, pattern, ..
                },
                Value::String(text),
            ) => {
                check_length(text.chars().count(), 0, *longest, "characters", path, wrong);
                check_pattern(text, pattern.as_ref(), path, wrong);
            }
            (
                Self::Integer { least, most } | Self::IntegerOrText { least, most, .. },
                Value::Number(number),
            ) if is_integer(number) => {
                let number = number.as_i64();
                if number.is_none_or(|number| !(*least..=*most).contains(&number)) {
                    wrong.push(invalid(path, format!("must be between {least} and {most}")));
                }
            }
            (Self::Anything, _) => {}
            _ => wrong.push(invalid(path, format!("must be {}", self.expected()))),
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::Object { .. } => "an object",
            Self::List { .. } => "a list",
            Self::Text { pattern, .. } if is_duration(pattern.as_ref()) => DURATION,
            Self::Text { .. } => "a string",
            Self::Integer { .. } => "an integer",
            Self::IntegerOrText { .. } => "an integer or a string",
            Self::Anything => "anything",
        }
    }
}

const DURATION: &str = "a duration such as 250ms, 10s or 1h30m";

fn is_duration(pattern: Option<&Regex>) -> bool {
    pattern.is_some_and(|pattern| pattern.as_str() == ApiDuration::PATTERN)
}

fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

fn invalid(path: &str, message: String) -> Violation {
    Violation {
        path: path.to_owned(),
        message,
        reason: ViolationReason::Invalid,
    }
}

/// Lengths of strings count characters, as the API server does.
fn check_length(
    length: usize,
    least: usize,
    most: usize,
    of: &str,
    path: &str,
    wrong: &mut Vec<Violation>,
) {
    if length < least {
        wrong.push(invalid(path, format!("must have at least {least} {of}")));
    }
    if length > most {
        wrong.push(invalid(path, format!("must have at most {most} {of}")));
    }
}

fn check_items(items: &Node, list: &[Value], unique: bool, path: &str, wrong: &mut Vec<Violation>) {
    for (index, item) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if unique && list[..index].contains(item) {
            wrong.push(Violation {
                path: path.clone(),
                message: "must not be twice in the list".to_owned(),
                reason: ViolationReason::Duplicate,
            });
        }
        items.check(item, &path, wrong);
    }
}

fn check_object(
    fields: &BTreeMap<String, Node>,
    required: &[String],
    object: &Map<String, Value>,
    path: &str,
    wrong: &mut Vec<Violation>,
) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    for name in required.iter().filter(|name| !object.contains_key(*name)) {
        let (path, message) = (below(name), "is required".to_owned());
        wrong.push(Violation {
            path,
            message,
            reason: ViolationReason::Required,
        });
    }
    for (name, value) in object {
        match fields.get(name) {
            Some(field) => field.check(value, &below(name), wrong),
            None => wrong.push(Violation {
                path: below(&printable(name)),
                message: "is not a field".to_owned(),
                reason: ViolationReason::Unknown,
            }),
        }
    }
}

/// A name from the document, fit for a log line: short and without control characters.
fn printable(name: &str) -> String {
    name.chars()
        .take(64)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn check_pattern(text: &str, pattern: Option<&Regex>, path: &str, wrong: &mut Vec<Violation>) {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_match(text)) else {
        return;
    };
    let message = match text.parse::<ApiDuration>() {
        Err(error) if is_duration(Some(pattern)) => error.to_string(),
        _ => format!("must match {}", pattern.as_str()),
    };
    wrong.push(invalid(path, message));
}
