//! The API server's verdict without an API server.

use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::LockPolicy;
use crate::address::is_match;
use crate::names::{API_VERSION, DEFAULT_NAMESPACE, KIND};
use crate::policy::{NAME, NAME_MESSAGE};
use crate::structure::Node;

/// Something that a document says wrongly. It never repeats a value, since the value may be a password in the wrong place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The field at fault, as in `spec.lease.ttl` or `spec.keys.allow[2]`; empty for the whole document.
    pub path: String,
    /// What is wrong with it, or what it must be; reads on after the path.
    pub message: String,
    /// What kind of fault it is.
    pub reason: ViolationReason,
}

/// What kind of fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ViolationReason {
    /// A value of the wrong type or out of its bounds.
    Invalid,
    /// A value that is right in itself, but not allowed with the rest or at all.
    Forbidden,
    /// A field that is missing.
    Required,
    /// A value that is there twice.
    Duplicate,
    /// A field that does not exist.
    Unknown,
}

impl Violation {
    fn new(path: &str, reason: ViolationReason, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            message: message.into(),
            reason,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Compiled at the first use.
static SCHEMA: LazyLock<Node> =
    LazyLock::new(|| Node::root().expect("a test holds the schema's file to what is understood"));

/// Checks a document and reads it: structure, bounds, unknown fields, then the rules between fields.
///
/// The verdict is the API server's on `kubectl apply` (strict field validation), with two liberties for files:
/// `metadata.namespace` may be absent and becomes `default`, and `status` is dropped unread, since the operator owns it.
/// Defaults are filled in.
///
/// # Errors
/// Everything that is wrong, as far as it can be told: rules between fields are only looked at when each field is right in
/// itself. Never empty.
pub fn validate(document: &Value) -> Result<LockPolicy, Vec<Violation>> {
    let Value::Object(fields) = document else {
        return Err(vec![Violation::new(
            "",
            ViolationReason::Invalid,
            "must be an object",
        )]);
    };
    let mut wrong = Vec::new();
    for (name, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match fields.get(name) {
            None | Some(Value::Null) => {
                wrong.push(Violation::new(
                    name,
                    ViolationReason::Required,
                    "is required",
                ));
            }
            Some(Value::String(text)) if text == expected => {}
            Some(_) => {
                wrong.push(Violation::new(
                    name,
                    ViolationReason::Invalid,
                    format!("must be {expected}"),
                ));
            }
        }
    }
    let metadata = metadata(fields.get("metadata"), &mut wrong);

    let mut fields = fields.clone();
    fields.remove("status");
    let mut document = Value::Object(fields);
    SCHEMA.drop_nulls(&mut document);
    SCHEMA.check(&document, "", &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }

    let mut policy: LockPolicy = serde_json::from_value(document).map_err(|error| {
        vec![Violation::new(
            "",
            ViolationReason::Invalid,
            error.to_string(),
        )]
    })?;
    let broken = policy.spec.all_broken("spec");
    if !broken.is_empty() {
        return Err(broken);
    }
    policy.metadata = metadata;
    Ok(policy)
}

/// Fields of `metadata` that exist. Most are the API server's, and come along in what `kubectl get -o yaml` writes.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn metadata(value: Option<&Value>, wrong: &mut Vec<Violation>) -> ObjectMeta {
    let Some(Value::Object(fields)) = value else {
        wrong.push(Violation::new(
            "metadata",
            ViolationReason::Required,
            "is required, with a name",
        ));
        return ObjectMeta::default();
    };
    for name in fields
        .keys()
        .filter(|name| !METADATA.contains(&name.as_str()))
    {
        let path = format!("metadata.{}", name.escape_debug());
        wrong.push(Violation::new(
            &path,
            ViolationReason::Unknown,
            "is not a field",
        ));
    }
    let mut metadata = match serde_json::from_value::<ObjectMeta>(Value::Object(fields.clone())) {
        Ok(metadata) => metadata,
        Err(error) => {
            wrong.push(Violation::new(
                "metadata",
                ViolationReason::Invalid,
                error.to_string(),
            ));
            return ObjectMeta::default();
        }
    };
    match &metadata.name {
        None => wrong.push(Violation::new(
            "metadata.name",
            ViolationReason::Required,
            "is required",
        )),
        Some(name) if !is_match(NAME, name) => {
            wrong.push(Violation::new(
                "metadata.name",
                ViolationReason::Invalid,
                NAME_MESSAGE,
            ));
        }
        Some(_) => {}
    }
    let namespace = metadata
        .namespace
        .get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned());
    if !is_match(NAME, namespace) {
        wrong.push(Violation::new(
            "metadata.namespace",
            ViolationReason::Invalid,
            NAME_MESSAGE,
        ));
    }
    metadata
}

#[cfg(test)]
mod tests;
