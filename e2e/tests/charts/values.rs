//! What documents the values is made from `values.yaml`.

use pawl_e2e::chart::{ALL, folder, golden, read, readme, schema, values};

#[test]
fn golden_every_value_is_in_the_readme() {
    for chart in ALL {
        let fields = values::read(&read(&folder(chart).join("values.yaml")));
        let page = folder(chart).join("README.md");
        golden(&page, &readme::with_values(&read(&page), &fields));
    }
}

#[test]
fn golden_the_schema_is_closed_over_every_value() {
    for chart in ALL {
        let fields = values::read(&read(&folder(chart).join("values.yaml")));
        assert!(fields.len() > 20, "{chart}: only {} fields", fields.len());
        golden(
            &folder(chart).join("values.schema.json"),
            &schema::of(chart, &fields),
        );
    }
}

/// A value that no template reads does nothing, and its description lies.
#[test]
fn every_value_is_used() {
    for chart in ALL {
        let templates = templates(&folder(chart).join("templates"));
        for field in values::read(&read(&folder(chart).join("values.yaml"))) {
            let last = field.path.last().expect("a path has a last key");
            // Templates often walk into a group by a variable, so only the last step is looked for.
            let step = format!(".{last}");
            let is_used = templates.match_indices(&step).any(|(place, _)| {
                !templates[place + step.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
            });
            assert!(
                is_used,
                "{chart}: no template uses {}",
                field.path.join(".")
            );
        }
    }
}

fn templates(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("there are templates") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            text.push_str(&templates(&path));
        } else {
            text.push_str(&read(&path));
        }
    }
    text
}
