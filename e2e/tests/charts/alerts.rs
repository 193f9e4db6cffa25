//! The alert rules, judged by promtool: each fires in the fault that it is for, and is silent otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use pawl_e2e::chart::{folder, read, root};
use serde_json::Value;

fn rules_file() -> PathBuf {
    folder("pawl").join("files/alerts.yaml")
}

fn tests_file() -> PathBuf {
    folder("pawl").join("testdata/alerts.test.yaml")
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .output()
        .expect("promtool is not installed: apt-get install prometheus");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

fn rules() -> Vec<Value> {
    let file: Value = serde_yaml::from_str(&read(&rules_file())).expect("it is YAML");
    let groups = file["groups"].as_array().expect("it has groups");
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("it has rules"))
        .cloned()
        .collect()
}

#[test]
fn each_rule_fires_in_its_fault_and_is_silent_otherwise() {
    promtool(&["check", "rules", &rules_file().display().to_string()]);
    promtool(&["test", "rules", &tests_file().display().to_string()]);
}

/// No rule is without a test that fires and one that does not.
#[test]
fn each_rule_has_a_fault_and_a_silence() {
    let tests: Value = serde_yaml::from_str(&read(&tests_file())).expect("it is YAML");
    let mut seen: BTreeMap<&str, BTreeSet<bool>> = BTreeMap::new();
    let tests = tests["tests"].as_array().expect("it has tests");
    for test in tests {
        for case in test["alert_rule_test"].as_array().expect("it has cases") {
            let name = case["alertname"].as_str().expect("it names its rule");
            let fires = case["exp_alerts"]
                .as_array()
                .is_some_and(|alerts| !alerts.is_empty());
            seen.entry(name).or_default().insert(fires);
        }
    }
    for rule in rules() {
        let name = rule["alert"].as_str().expect("a rule has a name");
        assert_eq!(
            seen.get(name),
            Some(&BTreeSet::from([false, true])),
            "{name} has to be tested both ways"
        );
    }
}

/// Who is woken finds what to do, and rules ask for metrics that exist.
#[test]
fn each_rule_is_explained_and_asks_for_metrics_that_are_documented() {
    let explained = read(&root().join("docs/alerts.md"));
    let metrics = read(&root().join("docs/metrics.md"));
    let mut names = Vec::new();
    for rule in rules() {
        let name = rule["alert"]
            .as_str()
            .expect("a rule has a name")
            .to_owned();
        assert!(
            explained.contains(&format!("\n## {name}\n")),
            "{name} is not in docs/alerts.md"
        );
        let link = rule["annotations"]["runbook_url"]
            .as_str()
            .unwrap_or_default();
        assert!(
            link.ends_with(&format!("/docs/alerts.md#{}", name.to_lowercase())),
            "{link}"
        );
        assert!(
            ["info", "warning", "critical"]
                .contains(&rule["labels"]["severity"].as_str().unwrap_or_default()),
            "{name}"
        );
        let expression = rule["expr"].as_str().expect("a rule has an expression");
        for metric in pawl_metrics(expression) {
            assert!(
                metrics.contains(&format!("`{metric}`")),
                "{name}: {metric} is not documented"
            );
        }
        names.push(name);
    }
    let sections = explained.matches("\n## Pawl").count();
    assert_eq!(
        sections,
        names.len(),
        "docs/alerts.md tells of a rule that is not there"
    );
}

/// The metrics that an expression names, as documented: a histogram without its suffix.
fn pawl_metrics(expression: &str) -> BTreeSet<String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pawl_"))
        .map(|word| {
            let word = word.strip_suffix("_bucket").unwrap_or(word);
            word.strip_suffix("_count").unwrap_or(word).to_owned()
        })
        .collect()
}
