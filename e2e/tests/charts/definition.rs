//! The definition in the chart is the one of the types.

use pawl_e2e::chart::{folder, golden, helm::Helm, read, root};
use serde_json::{Value, json};

const GUARD: &str = "\
# Made from crds/lockpolicies.pawl.dev.yaml by the test `charts`; PAWL_BLESS=1 renews it.
{{- if .Values.crds.enabled }}
";
const METADATA: &str = "  name: lockpolicies.pawl.dev\n";
const INSERTED: &str = r#"  labels:
    {{- include "pawl.labels" (dict "root" $ "component" "definition") | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"#;

fn made() -> String {
    let definition = read(&root().join("crds/lockpolicies.pawl.dev.yaml"));
    assert!(
        !definition.contains("{{"),
        "the definition has what helm takes for a template"
    );
    let (comment, definition) = definition.split_once('\n').expect("it has lines");
    assert!(comment.starts_with('#'), "{comment}");
    let (before, after) = definition.split_once(METADATA).expect("it has a name");
    format!("{GUARD}{before}{METADATA}{INSERTED}{after}{{{{- end }}}}\n")
}

#[test]
fn golden_the_chart_has_the_definition_of_the_types() {
    golden(
        &folder("pawl").join("templates/crd-lockpolicies.yaml"),
        &made(),
    );
}

/// What users get is what the tests of the definition are about, guarded by the values.
#[test]
fn the_definition_is_rendered_whole_kept_and_left_out_as_the_values_say() {
    let helm = Helm::new();
    let rendered = |arguments: &[&str]| -> Option<Value> {
        let objects = helm.objects("pawl", arguments);
        objects
            .into_iter()
            .find(|object| object["kind"] == "CustomResourceDefinition")
    };
    let text = read(&root().join("crds/lockpolicies.pawl.dev.yaml"));
    let original: Value = serde_yaml::from_str(&text).expect("it is YAML");
    let kept = rendered(&[]).expect("it is there");
    assert_eq!(kept["spec"], original["spec"]);
    assert_eq!(kept["metadata"]["name"], original["metadata"]["name"]);
    assert_eq!(
        kept["metadata"]["annotations"],
        json!({"helm.sh/resource-policy": "keep"})
    );
    let given_up = rendered(&["--set", "crds.keep=false"]).expect("it is there");
    assert_eq!(given_up["metadata"]["annotations"], Value::Null);
    assert_eq!(rendered(&["--set", "crds.enabled=false"]), None);
}
