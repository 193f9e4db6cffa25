//! What the charts render, for sets of values that together use every part of them.
//!
//! `testdata/<name>.values.yaml` makes `testdata/<name>.golden.yaml`. Its line `# helm: …` has more arguments.

use std::path::PathBuf;

use pawl_e2e::chart::{ALL, folder, golden, helm::Helm, read};
use serde_json::Value;

/// The sets of values of a chart: file, and arguments for helm.
fn sets(chart: &str) -> Vec<(PathBuf, Vec<String>)> {
    let mut sets: Vec<_> = std::fs::read_dir(folder(chart).join("testdata"))
        .expect("there are sets of values")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.to_string_lossy().ends_with(".values.yaml"))
        .map(|path| {
            let text = read(&path);
            let more = text.lines().find_map(|line| line.strip_prefix("# helm: "));
            let mut arguments = vec!["--values".to_owned(), path.display().to_string()];
            arguments.extend(
                more.unwrap_or_default()
                    .split_whitespace()
                    .map(str::to_owned),
            );
            (path, arguments)
        })
        .collect();
    sets.sort();
    assert!(sets.len() >= 3, "{chart}: only {} sets", sets.len());
    sets
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn golden_what_helm_renders() {
    let helm = Helm::new();
    for chart in ALL {
        for (path, arguments) in sets(chart) {
            let made = helm.template(chart, &words(&arguments));
            let made = made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path
                .to_string_lossy()
                .replace(".values.yaml", ".golden.yaml");
            golden(&PathBuf::from(name), &made);
        }
    }
}

/// GitOps renders again and again: what differs without a change of the values is applied again and again.
#[test]
fn the_same_values_always_render_the_same() {
    let helm = Helm::new();
    for chart in ALL {
        for (path, arguments) in sets(chart) {
            let first = helm.template(chart, &words(&arguments));
            assert_eq!(
                first,
                helm.template(chart, &words(&arguments)),
                "{}",
                path.display()
            );
        }
        // And nothing is asked of the cluster, which a renderer without one cannot answer.
        for entry in
            std::fs::read_dir(folder(chart).join("templates")).expect("there are templates")
        {
            let path = entry.expect("the folder can be read").path();
            let text = if path.is_file() {
                read(&path)
            } else {
                String::new()
            };
            for word in [
                "lookup ",
                "randAlpha",
                "randNumeric",
                "genCA",
                "genSigned",
                "genPrivateKey",
                "uuidv4",
                "now ",
                "Release.IsUpgrade",
                "Release.IsInstall",
                "Release.Revision",
            ] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn helm_has_nothing_to_complain_of() {
    let helm = Helm::new();
    for chart in ALL {
        let path = folder(chart).display().to_string();
        for (_, arguments) in sets(chart) {
            let values = [
                "lint",
                "--strict",
                "--kube-version",
                "1.34.0",
                "--values",
                &arguments[1],
                &path,
            ];
            let said = helm.run(values);
            assert!(
                said.is_ok(),
                "{chart} {}: {}",
                arguments[1],
                said.unwrap_err()
            );
        }
    }
}

/// What every object of a good chart has.
#[test]
fn objects_carry_the_recommended_labels_and_restricted_security_contexts() {
    let helm = Helm::new();
    let mut containers = 0;
    for chart in ALL {
        for (path, arguments) in sets(chart) {
            for object in helm.objects(chart, &words(&arguments)) {
                let name = format!(
                    "{} {}: {}",
                    path.display(),
                    object["kind"],
                    object["metadata"]["name"]
                );
                let labels = &object["metadata"]["labels"];
                for label in ["name", "instance", "version", "managed-by", "component"] {
                    let label = format!("app.kubernetes.io/{label}");
                    assert!(labels[&label].is_string(), "{name} has no {label}");
                }
                let template = match object["kind"].as_str() {
                    Some("Pod") => &object["spec"],
                    _ => &object["spec"]["template"]["spec"],
                };
                for container in template["containers"].as_array().into_iter().flatten() {
                    containers += 1;
                    restricted(&name, template, container);
                }
            }
        }
    }
    assert!(containers > 10, "only {containers} containers");
}

/// The Pod Security Standard `restricted`, and resources.
fn restricted(name: &str, pod: &Value, container: &Value) {
    let of_pod = &pod["securityContext"];
    let context = &container["securityContext"];
    assert_eq!(of_pod["runAsNonRoot"], true, "{name}");
    assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
    assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
    assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
    assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
    assert!(
        container["resources"]["requests"]["memory"].is_string(),
        "{name} requests no memory"
    );
    assert!(
        container["image"]
            .as_str()
            .is_some_and(|image| image.contains([':', '@'])),
        "{name}"
    );
}
