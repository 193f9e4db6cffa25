//! A cross-field rule, written twice: as CEL for the API server and as Rust for everyone without one.
//!
//! Both stand side by side so that nobody changes one alone, and a table of cases holds them to the same verdict.

use std::ops::RangeInclusive;

use kube::core::{Reason, Rule as CelRule};

use crate::{ApiDuration, ViolationReason, address, validate::Violation};

/// One rule over a `T`, which is `self` in the CEL text.
pub(crate) struct Rule<T> {
    cel: String,
    message: String,
    /// The field at fault, relative to `T`: `retry.max`; empty for the whole.
    field: &'static str,
    reason: ViolationReason,
    holds: Box<dyn Fn(&T) -> bool>,
}

/// Where the texts of a rule lie, relative to `self`.
#[derive(Clone, Copy)]
pub(crate) enum At {
    /// A required string.
    One(&'static str),
    /// A string that may be absent.
    Optional(&'static str),
    /// A list of strings.
    Each(&'static str),
    /// A list of objects and the string in each.
    EachIn(&'static str, &'static str),
}

impl At {
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::One(field)
            | Self::Optional(field)
            | Self::Each(field)
            | Self::EachIn(field, _) => field,
        }
    }

    /// CEL that asks `test` of every text there.
    fn every(self, test: impl Fn(&str) -> String) -> String {
        match self {
            Self::One(field) => test(&format!("self.{field}")),
            Self::Optional(field) => {
                format!("!has(self.{field}) || {}", test(&format!("self.{field}")))
            }
            Self::Each(list) => format!("self.{list}.all(x, {})", test("x")),
            Self::EachIn(list, field) => {
                format!("self.{list}.all(x, {})", test(&format!("x.{field}")))
            }
        }
    }
}

impl<T: 'static> Rule<T> {
    pub(crate) fn new(
        field: &'static str,
        cel: impl Into<String>,
        message: impl Into<String>,
        holds: impl Fn(&T) -> bool + 'static,
    ) -> Self {
        let (cel, message) = (cel.into(), message.into());
        Self {
            cel,
            message,
            field,
            reason: ViolationReason::Invalid,
            holds: Box::new(holds),
        }
    }

    /// A rule about the value as a whole.
    pub(crate) fn whole(
        cel: impl Into<String>,
        message: impl Into<String>,
        holds: impl Fn(&T) -> bool + 'static,
    ) -> Self {
        Self::new("", cel, message, holds)
    }

    /// Right in itself, but not together with the rest.
    pub(crate) fn forbidden(mut self) -> Self {
        self.reason = ViolationReason::Forbidden;
        self
    }

    /// Twice the same.
    pub(crate) fn duplicate(mut self) -> Self {
        self.reason = ViolationReason::Duplicate;
        self
    }

    /// A duration inside a range. `get` gives `None` where an optional field is absent.
    pub(crate) fn within(
        field: &'static str,
        range: RangeInclusive<ApiDuration>,
        get: impl Fn(&T) -> Option<ApiDuration> + 'static,
    ) -> Self {
        let (least, most) = (*range.start(), *range.end());
        Self::new(
            field,
            format!(
                "!has(self.{field}) || (duration(self.{field}) >= duration('{least}') && duration(self.{field}) <= duration('{most}'))"
            ),
            format!("must be between {least} and {most}"),
            move |value| get(value).is_none_or(|duration| range.contains(&duration)),
        )
    }

    /// Every text at a place matches a pattern.
    pub(crate) fn matching(
        at: At,
        pattern: &str,
        message: impl Into<String>,
        get: fn(&T) -> Vec<&str>,
    ) -> Self {
        let cel = at.every(|text| format!("{text}.matches({})", quote(pattern)));
        let pattern = pattern.to_owned();
        Self::new(at.field(), cel, message, move |value| {
            get(value)
                .into_iter()
                .all(|text| address::is_match(&pattern, text))
        })
    }

    /// No text at a place matches a pattern.
    pub(crate) fn never_matching(
        at: At,
        pattern: &str,
        message: impl Into<String>,
        get: fn(&T) -> Vec<&str>,
    ) -> Self {
        let cel = at.every(|text| format!("!{text}.matches({})", quote(pattern)));
        let pattern = pattern.to_owned();
        Self::new(at.field(), cel, message, move |value| {
            !get(value)
                .into_iter()
                .any(|text| address::is_match(&pattern, text))
        })
    }
}

/// A type with rules.
pub(crate) trait Ruled: Sized + 'static {
    fn rules() -> Vec<Rule<Self>>;

    /// What is broken, in the order of the rules. `path` is where this value lies in the document.
    fn broken(&self, path: &str) -> Vec<Violation> {
        let broken = Self::rules().into_iter().filter(|rule| !(rule.holds)(self));
        broken
            .map(|rule| Violation {
                path: if rule.field.is_empty() {
                    path.to_owned()
                } else {
                    format!("{path}.{}", rule.field)
                },
                message: rule.message,
                reason: rule.reason,
            })
            .collect()
    }

    /// The value of `x-kubernetes-validations`.
    fn cel_rules() -> Vec<CelRule> {
        Self::rules()
            .into_iter()
            .map(|rule| {
                let reason = match rule.reason {
                    ViolationReason::Forbidden => Reason::FieldValueForbidden,
                    // The API server's own words for a duplicate leave the message out.
                    ViolationReason::Required => Reason::FieldValueRequired,
                    _ => Reason::FieldValueInvalid,
                };
                let cel = CelRule::new(rule.cel)
                    .message(rule.message.as_str())
                    .reason(reason);
                if rule.field.is_empty() {
                    cel
                } else {
                    cel.field_path(format!(".{}", rule.field))
                }
            })
            .collect()
    }
}

/// A CEL string literal.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
