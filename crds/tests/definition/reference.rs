//! `docs/policy.md`, from the schema.

use std::fmt::Write;

use serde_json::Value;

const OPENING: &str = "\
<!-- Made from the types in crds/src; the test `definition` of pawl-crds renews it with PAWL_BLESS=1. -->
# LockPolicy reference

`apiVersion: pawl.dev/v1alpha1`, `kind: LockPolicy`, namespaced, short name `lp`. The same document is applied with
`kubectl` and put as a file into the sidecar's directory of policies; both refuse the same documents. `kubectl explain
lockpolicy.spec` shows these texts too.

A file may leave out `metadata.namespace` (it is `default` then), and its `status` is not looked at. A file holds one
document of at most 64 KiB, YAML or JSON, in which no field is there twice.

The smallest policy:

```yaml
apiVersion: pawl.dev/v1alpha1
kind: LockPolicy
metadata:
  name: payments
spec:
  backend:
    redis:
      url: redis://redis:6379/0
```

Durations are [Gateway-API durations](https://gateway-api.sigs.k8s.io/geps/gep-2257/): one to four numbers with a unit of
`h`, `m`, `s` or `ms`, such as `250ms`, `10s` or `1h30m`. `null` means the same as leaving the field out. Unknown fields
are refused (by `kubectl` and by strict clients; the API server drops them for others).
";

/// The whole page.
pub(crate) fn page(root: &Value) -> String {
    let mut page = OPENING.to_owned();
    section(&mut page, "spec", &root["properties"]["spec"]);
    section(&mut page, "status", &root["properties"]["status"]);
    page.push_str(
        "\n## Rules\n\nWhat is checked between fields, with the words of the refusal.\n\n",
    );
    page.push_str("| field | refusal |\n|---|---|\n");
    rules(&mut page, "", root);
    page
}

fn section(page: &mut String, path: &str, schema: &Value) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let about = schema["description"].as_str().unwrap_or_default();
    write!(
        page,
        "\n## {path}\n\n{about}\n\n| field | type | default | |\n|---|---|---|---|\n"
    )
    .unwrap();
    for (name, field) in fields {
        let default = match &field["default"] {
            Value::Null if required.contains(&&Value::from(name.as_str())) => "required".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let about = cell(field["description"].as_str().unwrap_or_default());
        writeln!(page, "| `{name}` | {} | {default} | {about} |", kind(field)).unwrap();
    }
    for (name, field) in fields {
        let below = if field["type"] == "array" {
            &field["items"]
        } else {
            field
        };
        let brackets = if field["type"] == "array" { "[]" } else { "" };
        section(page, &format!("{path}.{name}{brackets}"), below);
    }
}

fn kind(field: &Value) -> String {
    let is_duration = field["pattern"] == pawl_crds::ApiDuration::PATTERN;
    match field["type"].as_str() {
        Some("string") if is_duration => "duration".to_owned(),
        Some("string") if field["enum"].is_array() => {
            let choices = field["enum"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            choices
                .map(|choice| format!("`{choice}`"))
                .collect::<Vec<_>>()
                .join(" or ")
        }
        Some("string") if field["format"] == "date-time" => "time".to_owned(),
        Some("array") => format!("list of {}", kind(&field["items"])),
        Some(kind) => kind.to_owned(),
        None => "quantity".to_owned(),
    }
}

fn rules(page: &mut String, path: &str, schema: &Value) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let field = format!("{path}{}", rule["fieldPath"].as_str().unwrap_or_default());
        let field = if field.is_empty() {
            ".metadata.name"
        } else {
            &field
        };
        let message = rule["message"].as_str().unwrap_or_default();
        let message = cell(message.trim_start_matches("metadata.name "));
        writeln!(page, "| `{}` | {message} |", field.trim_start_matches('.')).unwrap();
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        rules(page, &format!("{path}.{name}"), field);
    }
}

/// Text for a cell of a table: stars and bars are not markup.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('*', "\\*")
        .replace('_', "\\_")
        .replace('<', "&lt;")
}
