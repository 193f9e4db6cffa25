use proptest::prelude::*;

use super::*;
use crate::{ApiDuration, BackendKind, Chosen};

const YAML: &str = include_str!("../../testdata/policies/redis.yaml");

fn error(text: &str) -> ParseError {
    parse(text).expect_err(text)
}

#[test]
fn yaml_and_json_read_alike() {
    let policy = parse(YAML).unwrap();
    assert_eq!(policy.metadata.name.as_deref(), Some("redis"));
    assert_eq!(policy.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(
        policy.spec.backend.chosen().map(Chosen::kind),
        Some(BackendKind::Redis)
    );
    assert_eq!(policy.spec.lease.ttl, ApiDuration::from_secs(10));
    let json = serde_json::to_string_pretty(&policy)
        .unwrap()
        .replace("  ", "\t");
    assert_eq!(parse(&json).unwrap(), policy);
    assert_eq!(
        parse(&format!("\u{feff}---\n# a comment\n{YAML}")).unwrap(),
        policy
    );
}

#[test]
fn what_the_api_server_adds_is_taken() {
    let mut document: Value = serde_yaml::from_str(YAML).unwrap();
    document["status"] = serde_json::json!({"conditions": "whatever", "newer": 1});
    document["metadata"]["managedFields"] = serde_json::json!([{"manager": "kubectl"}]);
    document["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    document["metadata"]["namespace"] = "shop".into();
    let policy = parse(&document.to_string()).unwrap();
    assert_eq!(policy.metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(policy.status, None);
}

#[test]
fn a_field_twice_is_refused() {
    for text in [
        YAML.replace("spec:", "spec: {}\nspec:"),
        format!("{YAML}      url: redis://other:6379\n"),
        r#"{"kind":"LockPolicy","kind":"LockPolicy"}"#.to_owned(),
        r#"{"spec":{"lease":{"ttl":"1s","ttl":"2s"}}}"#.to_owned(),
    ] {
        let ParseError::Syntax(message) = error(&text) else {
            panic!("{text}");
        };
        assert!(
            message.contains("is there twice") || message.contains("duplicate"),
            "{message}"
        );
    }
}

#[test]
fn one_document_and_no_more() {
    assert!(matches!(error(""), ParseError::Empty));
    assert!(matches!(error("# nothing\n"), ParseError::Empty));
    assert!(matches!(error("---\n"), ParseError::Empty));
    assert!(matches!(
        error(&format!("{YAML}---\n{YAML}")),
        ParseError::Several
    ));
    assert!(matches!(error(r#"{"a":1}{"b":2}"#), ParseError::Syntax(_)));
}

#[test]
fn long_and_deep_documents_are_refused() {
    let long = format!(
        "{YAML}# {}\n",
        "x".repeat(MAX_DOCUMENT_BYTES - YAML.len() - 3)
    );
    assert_eq!(long.len(), MAX_DOCUMENT_BYTES);
    parse(&long).unwrap();
    assert!(matches!(error(&format!("{long}#")), ParseError::TooLong));
    assert!(matches!(error(&"[".repeat(60_000)), ParseError::Syntax(_)));
    assert!(matches!(
        error(&"{\"a\":".repeat(10_000)),
        ParseError::Syntax(_)
    ));
}

/// Each level names the one before nine times: a gigabyte from a few lines, if it were read.
#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{},", level - 1).repeat(9);
        text.extend([format!("a{level}: &a{level} [{alias}]\n")]);
    }
    assert!(matches!(error(&text), ParseError::Syntax(_)));
}

#[test]
fn tags_odd_keys_and_numbers_that_are_none_are_refused() {
    for text in [
        "!include /etc/passwd",
        "spec: !!binary aGk=",
        "1: x",
        "[a]: x",
        "spec: .nan",
        "spec: .inf",
        "~: x",
    ] {
        assert!(
            matches!(error(text), ParseError::Syntax(_) | ParseError::Refused(_)),
            "{text}"
        );
    }
    assert!(matches!(error("spec: .nan"), ParseError::Syntax(_)));
}

#[test]
fn errors_have_a_category_and_name_every_fault() {
    let error = error(
        "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {name: x}\nspec: {backend: {memory: {}}, lease: {ttl: 1d, tll: 1s}}\n",
    );
    assert_eq!(error.category(), "refused");
    let text = error.to_string();
    assert!(
        text.contains("spec.lease.ttl: a duration has only the units h, m, s and ms"),
        "{text}"
    );
    assert!(text.contains("spec.lease.tll: is not a field"), "{text}");
    assert_eq!(ParseError::TooLong.category(), "too_long");
    assert_eq!(ParseError::Empty.category(), "empty");
    assert_eq!(ParseError::Several.category(), "several");
    assert_eq!(ParseError::Syntax(String::new()).category(), "syntax");
}

proptest! {
    #[test]
    fn never_panics(text in "[ -~\n]{0,200}") {
        let _ = parse(&text);
    }
}
