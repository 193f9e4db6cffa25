//! `spec.sidecar`: what the policy asks of the sidecar beside the application.

use std::borrow::Cow;
use std::fmt;

use regex_lite::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::rule::{Rule, Ruled};

/// Who may call the lock API inside the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Auth {
    /// Every process of the pod.
    #[default]
    None,
    /// Who shows the pod's bearer token.
    Token,
}

/// What the policy asks of the sidecar.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sidecar {
    /// Who may call the lock API: None (every process of the pod) or Token (callers that show the pod's bearer token,
    /// which is mounted in memory into the application's containers). A pod that is bound to several policies needs
    /// the token as soon as one of them asks for it. Default None.
    pub auth: Auth,
    /// Resources of the sidecar's container. Absent: what the operator is set to. A pod that is bound to several
    /// policies gets the largest of each amount; the pod's own annotation wins over all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// Resources as in a container.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = Resources::cel_rules()))]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What the container may not exceed. Renewals need processor time: a limit on cpu can cost leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

impl Ruled for Resources {
    fn rules() -> Vec<Rule<Self>> {
        fn fits(
            field: &'static str,
            name: &str,
            get: fn(&ResourceAmounts) -> Option<&Quantity>,
        ) -> Rule<Resources> {
            Rule::new(
                field,
                format!(
                    "!has(self.requests) || !has(self.limits) || !has(self.requests.{name}) || !has(self.limits.{name}) || quantity(string(self.requests.{name})).compareTo(quantity(string(self.limits.{name}))) <= 0"
                ),
                format!("must not be more than limits.{name}"),
                move |resources: &Resources| {
                    let request = resources.requests.as_ref().and_then(get);
                    let limit = resources.limits.as_ref().and_then(get);
                    request
                        .zip(limit)
                        .is_none_or(|(request, limit)| request.micros() <= limit.micros())
                },
            )
        }
        vec![
            fits("requests.cpu", "cpu", |amounts| amounts.cpu.as_ref()),
            fits("requests.memory", "memory", |amounts| {
                amounts.memory.as_ref()
            }),
        ]
    }
}

/// Amounts of the resources that a sidecar uses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceAmounts {
    /// Processor time, as a Kubernetes quantity such as 10m or 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, as a Kubernetes quantity such as 32Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// A Kubernetes quantity, as it was written; a bare number reads as its text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Quantity(String);

impl Quantity {
    /// Digits, at most one point, and a suffix that containers use. No sign, no exponent.
    pub(crate) const PATTERN: &'static str = "^[0-9]{1,12}([.][0-9]{1,3})?(m|k|M|G|Ki|Mi|Gi)?$";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the schema lets it through.
    pub fn is_valid(&self) -> bool {
        Regex::new(Self::PATTERN).is_ok_and(|pattern| pattern.is_match(&self.0))
    }

    /// The value in millionths; 0 for a text that the schema does not let through.
    pub fn micros(&self) -> u128 {
        let digits = self.0.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let micros: u128 = format!("{whole}{fraction:0<6}").parse().unwrap_or_default();
        match &self.0[digits.len()..] {
            "m" => micros / 1_000,
            "k" => micros * 1_000,
            "M" => micros * 1_000_000,
            "G" => micros * 1_000_000_000,
            "Ki" => micros << 10,
            "Mi" => micros << 20,
            "Gi" => micros << 30,
            _ => micros,
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 10m or 32Mi")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Said outright, or the derive makes it nullable: null means absent here, as everywhere in a policy.
        json_schema!({
            "nullable": false,
            "x-kubernetes-int-or-string": true,
            "pattern": Self::PATTERN,
            "maxLength": 24,
            "minimum": 0,
            "maximum": 999_999_999_999_i64,
        })
    }
}
