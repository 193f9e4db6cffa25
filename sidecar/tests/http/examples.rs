//! The examples of `docs/api.md`: every command is run, every answer compared.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    golden::settle,
    sidecar::{POLICY, Sidecar},
};

const MARK: &str = "=== next ===";

/// The commands of the document with what they say, in their order.
fn examples(text: &str) -> Vec<(&str, String)> {
    let mut examples = Vec::new();
    let blocks = text
        .split("```console\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap());
    for line in blocks.flat_map(str::lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            examples.push((command, String::new()));
        } else {
            let (_, said): &mut (&str, String) = examples.last_mut().unwrap();
            *said += line;
            *said += "
";
        }
    }
    examples
}

/// The same, without what differs each time.
fn settled(said: &str) -> String {
    let line = |line: &str| {
        let (before, json) = line
            .strip_prefix("data: ")
            .map_or(("", line), |json| ("data: ", json));
        match serde_json::from_str::<Value>(json) {
            Ok(mut json) => {
                settle(&mut json);
                format!("{before}{json}\n")
            }
            Err(_) => format!("{line}\n"),
        }
    };
    said.trim().lines().map(line).collect()
}

#[test]
fn every_example_of_the_reference_is_true() {
    let sidecar = Sidecar::with(&[("payments", POLICY)], |command| {
        command.args(["--identity", "orders-7"]);
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    let examples = examples(&text);
    assert!(examples.len() > 15);
    let mut script = String::new();
    for (command, _) in &examples {
        script += command;
        script += "
echo '";
        script += MARK;
        script += "'
";
    }
    let script = script.replace(
        "localhost:4600",
        &format!("localhost:{}", sidecar.address.port()),
    );
    let ran = Command::new("bash").arg("-c").arg(script).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let said: Vec<&str> = said.split(&format!("{MARK}\n")).collect();
    for ((command, expected), said) in examples.iter().zip(&said) {
        assert_eq!(settled(said), settled(expected), "{command}");
    }
    assert_eq!(said.len(), examples.len() + 1);
}
