//! A chart's values with their comments.

use serde_json::{Map, Value};

/// What introduces a line of a comment that adds to the schema.
const SCHEMA: &str = "@schema ";

/// A value, or a group of values.
#[derive(Debug, Clone)]
pub struct Field {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// What the comment above it says.
    pub text: String,
    /// What the comment adds to the schema.
    pub schema: Map<String, Value>,
    /// What it is set to.
    pub default: Value,
    /// Whether it is a group: what is in it is described by itself.
    pub is_group: bool,
}

/// Reads the fields of `values.yaml`, in their order.
///
/// # Panics
/// If it is not YAML, or a field has no comment right above it.
pub fn read(yaml: &str) -> Vec<Field> {
    let values: Value = serde_yaml::from_str(yaml).expect("values.yaml is YAML");
    let mut fields = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    // What is inside of a value is not a field.
    let mut inside: Option<usize> = None;
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() {
            comment.clear();
            continue;
        }
        if inside.is_some_and(|leaf| indent > leaf) {
            continue;
        }
        inside = None;
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        let (key, _) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("not a key: {line}"));
        path.retain(|(outer, _)| *outer < indent);
        path.push((indent, key.to_owned()));
        let keys: Vec<String> = path.iter().map(|(_, key)| key.clone()).collect();
        let field = field(keys, &comment, &values);
        comment.clear();
        if !field.is_group {
            inside = Some(indent);
        }
        fields.push(field);
    }
    fields
}

fn field(path: Vec<String>, comment: &[&str], values: &Value) -> Field {
    let name = path.join(".");
    let pointer = format!("/{}", path.join("/"));
    let default = values
        .pointer(&pointer)
        .unwrap_or_else(|| panic!("{name} is not in the values"))
        .clone();
    let mut schema = Map::new();
    let mut text = Vec::new();
    for line in comment {
        match line.strip_prefix(SCHEMA) {
            Some(json) => schema.extend(
                serde_json::from_str::<Map<String, Value>>(json)
                    .unwrap_or_else(|error| panic!("{name}: @schema: {error}")),
            ),
            None => text.push(*line),
        }
    }
    let text = text.join(" ");
    assert!(
        text.ends_with('.'),
        "{name} is not described by a sentence right above it: {text:?}"
    );
    let is_group = !schema.contains_key("type")
        && default.as_object().is_some_and(|fields| !fields.is_empty());
    Field {
        path,
        text,
        schema,
        default,
        is_group,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const YAML: &str = r#"# About the file.

# A group.
group:
  # A number of
  # two lines.
  # @schema {"minimum":1}
  number: 3
  # Free.
  # @schema {"type":"object"}
  free:
    inner: 1
# A list.
list:
  - a: 1
"#;

    #[test]
    fn comments_belong_to_the_key_below_them() {
        let fields = read(YAML);
        let names: Vec<_> = fields.iter().map(|field| field.path.join(".")).collect();
        assert_eq!(names, ["group", "group.number", "group.free", "list"]);
        assert_eq!(fields[1].text, "A number of two lines.");
        assert_eq!(fields[1].schema["minimum"], json!(1));
        assert_eq!(
            fields
                .iter()
                .map(|field| field.is_group)
                .collect::<Vec<_>>(),
            [true, false, false, false]
        );
        assert_eq!(fields[3].default, json!([{"a": 1}]));
    }

    #[test]
    #[should_panic(expected = "b is not described")]
    fn a_value_without_a_comment_is_refused() {
        read("# Described.\na: 1\nb: 2\n");
    }
}
