//! One table of policies, two judges: what the sidecar runs on files, and the rules of the generated definition as the API
//! server would evaluate them. They must say the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kube::CustomResourceExt;
use kube_cel::{CompiledSchema, Validator, apply_defaults, compile_schema};
use pawl_crds::{LockPolicy, Violation, ViolationReason, validate};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    name: String,
    base: String,
    set: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    name: String,
    base: String,
    set: BTreeMap<String, Value>,
    field: String,
    message: String,
    by: By,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum By {
    Rule,
    Schema,
    Strict,
    Metadata,
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn policies() -> Vec<(String, Value)> {
    let mut policies: Vec<_> = fs::read_dir(testdata("policies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                read(&path),
            )
        })
        .collect();
    policies.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(policies.len() >= 11, "the minimal policies are gone");
    policies
}

/// The base policy with the fields set.
fn document(base: &str, set: &BTreeMap<String, Value>) -> Value {
    let mut document: Value = read(&testdata(&format!("policies/{base}.yaml")));
    for (path, value) in set {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let mut at = &mut document;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            let fields = at
                .as_object_mut()
                .unwrap_or_else(|| panic!("{path} does not lead anywhere"));
            at = fields.entry(parent).or_insert_with(|| json!({}));
        }
        let fields = at.as_object_mut().unwrap();
        if value.is_null() {
            fields.remove(last);
        } else {
            fields.insert(last.to_owned(), value.clone());
        }
    }
    document
}

fn schema() -> Value {
    let definition = serde_json::to_value(LockPolicy::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The rules of the definition, compiled once.
struct Judge {
    schema: Value,
    compiled: CompiledSchema,
}

fn judge() -> Judge {
    let schema = schema();
    let compiled = compile_schema(&schema);
    assert!(
        !compiled.has_errors(),
        "{:?}",
        compiled.compilation_errors()
    );
    Judge { schema, compiled }
}

/// Like the API server: nulls are dropped, defaults filled in, then the rules are evaluated.
fn cel(judge: &Judge, document: &Value) -> BTreeSet<(String, String)> {
    let mut document = document.clone();
    drop_nulls(&mut document);
    let document = with_defaults(&judge.schema, &document);
    let Err(errors) = Validator::new().validate_compiled(&judge.compiled, &document, None) else {
        return BTreeSet::new();
    };
    errors
        .iter()
        .map(|error| place(&error.field_path, &error.message))
        .collect()
}

/// A rule at the root has no path; its message names the field.
fn place(path: &str, message: &str) -> (String, String) {
    match message.strip_prefix("metadata.name ") {
        Some(rest) => ("metadata.name".to_owned(), rest.to_owned()),
        None => (path.trim_start_matches('.').to_owned(), message.to_owned()),
    }
}

/// The API server goes down into a default that it just filled in; the evaluator does so only when asked again.
fn with_defaults(schema: &Value, document: &Value) -> Value {
    let next = apply_defaults(schema, document);
    if next == *document {
        next
    } else {
        with_defaults(schema, &next)
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn pairs(violations: &[Violation]) -> BTreeSet<(String, String)> {
    violations
        .iter()
        .map(|violation| (violation.path.clone(), violation.message.clone()))
        .collect()
}

#[test]
fn every_accepted_policy_passes_both_judges() {
    let judge = judge();
    let bases = policies()
        .into_iter()
        .map(|(name, document)| (format!("policies/{name}"), document));
    let cases: Vec<Accepted> = read(&testdata("accepted.yaml"));
    let cases = cases
        .into_iter()
        .map(|case| (case.name, document(&case.base, &case.set)));
    for (name, document) in bases.chain(cases) {
        assert_eq!(validate(&document).map(|_| ()), Ok(()), "{name}");
        assert_eq!(cel(&judge, &document), BTreeSet::new(), "{name}");
    }
}

#[test]
fn every_refused_policy_names_its_field_and_both_judges_agree() {
    let judge = judge();
    let cases: Vec<Refused> = read(&testdata("refused.yaml"));
    for case in cases {
        let document = document(&case.base, &case.set);
        let violations = validate(&document).expect_err(&case.name);
        assert!(
            violations
                .iter()
                .any(|v| v.path == case.field && v.message.contains(&case.message)),
            "{}: {violations:?}",
            case.name
        );
        let unknown = violations
            .iter()
            .any(|v| v.reason == ViolationReason::Unknown);
        assert_eq!(
            unknown,
            case.by == By::Strict || case.name == "misspelt labels",
            "{}",
            case.name
        );
        if case.by == By::Rule {
            assert_eq!(pairs(&violations), cel(&judge, &document), "{}", case.name);
        }
    }
}

#[test]
fn every_rule_of_the_definition_is_broken_by_a_case() {
    let judge = judge();
    let mut rules = BTreeSet::new();
    collect_rules(&judge.schema, "", &mut rules);
    assert!(rules.len() > 50, "only {} rules found", rules.len());
    let cases: Vec<Refused> = read(&testdata("refused.yaml"));
    for case in cases.iter().filter(|case| case.by == By::Rule) {
        for broken in cel(&judge, &document(&case.base, &case.set)) {
            rules.remove(&broken);
        }
    }
    assert_eq!(rules, BTreeSet::new(), "no case breaks these");
}

/// Each rule's place and message, and what a rule must have.
fn collect_rules(schema: &Value, path: &str, rules: &mut BTreeSet<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let field = rule["fieldPath"].as_str().unwrap_or_default();
        let path = format!("{path}{field}");
        let message = rule["message"]
            .as_str()
            .unwrap_or_else(|| panic!("a rule at {path} has no message"));
        assert!(
            rules.insert(place(&path, message)),
            "two rules at {path} say the same"
        );
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect_rules(field, &format!("{path}.{name}"), rules);
    }
    if schema["items"].is_object() {
        collect_rules(&schema["items"], &format!("{path}[]"), rules);
    }
}

/// A file is read without an API server in between; the defaults must be the same.
#[test]
fn defaults_are_the_schemas() {
    let schema = schema();
    for (name, document) in policies() {
        let by_schema = with_defaults(&schema, &document);
        let by_types = serde_json::to_value(validate(&document).unwrap()).unwrap();
        assert_eq!(by_types["spec"], by_schema["spec"], "{name}");
    }
}

#[test]
fn no_refusal_repeats_a_value() {
    let cases: Vec<Refused> = read(&testdata("refused.yaml"));
    let mut looked_at = 0;
    for case in cases {
        let document = document(&case.base, &case.set);
        if document.to_string().contains("hunter2") {
            looked_at += 1;
            let violations = validate(&document).unwrap_err();
            assert!(
                !format!("{violations:?}").contains("hunter2"),
                "{}",
                case.name
            );
        }
    }
    assert!(looked_at >= 4);
}
