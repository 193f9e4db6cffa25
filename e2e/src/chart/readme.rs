//! The table of values in a chart's `README.md`.

use std::fmt::Write as _;

use serde_json::Value;

use super::values::Field;

/// Where the table begins.
pub const BEGIN: &str =
    "<!-- Made from values.yaml by the test `charts`; PAWL_BLESS=1 renews it. -->";
/// Where it ends.
pub const END: &str = "<!-- End of what is made. -->";

/// The page with the table in it renewed.
///
/// # Panics
/// If the page has no place for it.
pub fn with_values(page: &str, fields: &[Field]) -> String {
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the page has a place for the values");
    let (_, after) = rest.split_once(END).expect("the place ends");
    format!("{before}{BEGIN}\n{}{END}{after}", table(fields))
}

fn table(fields: &[Field]) -> String {
    let mut text = String::new();
    let mut last_was_group = true;
    for (place, field) in fields.iter().enumerate() {
        let name = field.path.join(".");
        if field.is_group {
            write!(text, "\n### {name}\n{}\n\n", field.text).expect("a string takes all");
            head(&mut text);
        } else {
            let parent = &field.path[..field.path.len() - 1];
            let above = place.checked_sub(1).map(|above| &fields[above]);
            let is_first = above.is_none_or(|above| {
                let group = if above.is_group {
                    &above.path[..]
                } else {
                    &above.path[..above.path.len() - 1]
                };
                group != parent
            });
            if is_first {
                // After a group within a group: the outer one goes on.
                let title = if parent.is_empty() {
                    "General".to_owned()
                } else {
                    format!("{}, continued", parent.join("."))
                };
                write!(text, "\n### {title}\n\n").expect("a string takes all");
                head(&mut text);
            }
            let default = shown(&field.default);
            writeln!(text, "| `{name}` | {default} | {} |", cell(&field.text))
                .expect("a string takes all");
        }
        last_was_group = field.is_group;
    }
    assert!(!last_was_group, "the last group is empty");
    // A group of nothing but groups has no table of its own.
    text.replace(&format!("{HEAD}\n###"), "###") + "\n"
}

const HEAD: &str = "| value | default | |\n|---|---|---|\n";

fn head(text: &mut String) {
    text.push_str(HEAD);
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("`{}`", cell(text)),
        value => format!("`{}`", cell(&value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::values::read, *};

    #[test]
    fn every_value_is_a_line_below_its_group() {
        let fields = read(
            "# First.\na: 1\n# Group.\ng:\n  # Inner.\n  i:\n    # Deep.\n    d: x\n  # Later.\n  l: []\n",
        );
        let page = with_values(&format!("head\n{BEGIN}\nold\n{END}\ntail\n"), &fields);
        assert!(page.starts_with("head\n") && page.ends_with("tail\n") && !page.contains("old"));
        for line in [
            "### General",
            "| `a` | `1` | First. |",
            "### g\nGroup.\n",
            "### g.i\nInner.\n",
            "| `g.i.d` | `x` | Deep. |",
            "### g, continued",
            "| `g.l` | `[]` | Later. |",
        ] {
            assert!(page.contains(line), "{line:?} is missing in\n{page}");
        }
        assert!(
            !page.contains("|---|---|---|\n\n###"),
            "an empty table in\n{page}"
        );
    }
}
