//! `spec.keys`: which keys, and how many.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key_pattern;
use crate::rule::{At, Rule, Ruled};

/// Which keys may be locked, and how many at a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Keys::cel_rules()))]
pub struct Keys {
    /// What stands before each key at the backend. Default empty: the policy's namespace and name, so that two policies
    /// never meet. Set the same prefix in two policies where they mean to exclude each other. Up to 63 characters of
    /// letters, digits and ._:/@-, the first a letter or digit.
    #[schemars(
        length(max = 63),
        regex(pattern = "^([A-Za-z0-9][A-Za-z0-9._:/@-]*)?$")
    )]
    pub prefix: String,
    /// Keys that may be locked; any other key is refused. Segments are parted by /. A * stands for any characters
    /// within one segment, ** as the last segment for one or more whole segments: account/* takes account/42,
    /// account/** also account/42/card. 1 to 64 patterns of 1 to 253 characters. Default: the one pattern `**`,
    /// every key.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 253)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow: Vec<String>,
    /// Most keys that one sidecar holds at a time with this policy; beyond it an acquire is refused with 429. 1 to
    /// 100000. Default 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_held: u32,
    /// Most callers that queue in one sidecar at a time with this policy; beyond it an acquire is refused with 429. 1
    /// to 100000. Default 10000.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_waiters: u32,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            allow: vec!["**".to_owned()],
            max_held: 10_000,
            max_waiters: 10_000,
        }
    }
}

fn allow_texts(keys: &Keys) -> Vec<&str> {
    keys.allow.iter().map(String::as_str).collect()
}

impl Ruled for Keys {
    fn rules() -> Vec<Rule<Self>> {
        vec![
            Rule::matching(
                At::Each("allow"),
                key_pattern::GRAMMAR,
                "must be key patterns: segments of letters, digits, ._:@- and single *, parted by one /, with ** only as the last segment",
                allow_texts,
            ),
            Rule::never_matching(
                At::Each("allow"),
                key_pattern::DOT_SEGMENT,
                "must not have a segment . or .., which no key has",
                allow_texts,
            ),
        ]
    }
}
