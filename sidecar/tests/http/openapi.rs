//! `docs/openapi.yaml` and `docs/errors.md` against the code and the running server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pawl_sidecar::api::Code;
use serde_json::Value;

use crate::sidecar::Sidecar;

/// The version that the tests were made with.
const SCHEMATHESIS: &str = "4.32.5";
/// How long it tries, in seconds.
const BUDGET: &str = "90";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn spec() -> Value {
    let text = fs::read_to_string(root().join("docs/openapi.yaml")).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

#[test]
fn every_code_is_in_the_specification_and_nothing_else() {
    let spec = spec();
    let listed = spec["components"]["schemas"]["Code"]["enum"]
        .as_array()
        .unwrap();
    let listed: Vec<&str> = listed.iter().map(|code| code.as_str().unwrap()).collect();
    let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(listed, known);
    // Each is named by the responses that can carry it.
    let responses = spec["components"]["responses"].to_string();
    for code in known {
        assert!(
            responses.contains(&format!("`{code}`")),
            "{code} is in no response"
        );
    }
}

#[test]
fn every_code_is_explained_with_its_status_and_title_and_nothing_else() {
    let text = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let sections: BTreeMap<&str, &str> = text
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .collect();
    let known: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(sections.keys().copied().collect::<BTreeSet<_>>(), known);
    for code in Code::ALL {
        let section = sections[code.as_str()];
        let first = format!("**{}** {}.\n", code.status().as_u16(), code.title());
        assert!(section.starts_with(&first), "{}: {section}", code.as_str());
        assert!(section.contains("*What to do:*"), "{}", code.as_str());
    }
}

#[test]
fn the_specification_has_the_paths_and_methods_of_the_server() {
    let sidecar = Sidecar::start();
    for (path, item) in spec()["paths"].as_object().unwrap() {
        let methods = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters");
        let specified: BTreeSet<String> = methods.map(|method| method.to_uppercase()).collect();
        let path = path
            .replace("{policy}", "p")
            .replace("{key}", "a/b")
            .replace("{leaseId}", "x");
        let answer = sidecar.call("OPTIONS", &path, "");
        assert_eq!(answer.status, 405, "{path}");
        let served = answer
            .header("allow")
            .unwrap()
            .split(", ")
            .map(str::to_owned)
            .collect();
        assert_eq!(specified, served, "{path}");
    }
}

#[test]
fn every_operation_says_how_it_fails() {
    for (path, item) in spec()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "401", "404", "4XX", "5XX"] {
                assert!(responses.contains_key(status), "{method} {path}: {status}");
            }
            assert!(operation["operationId"].is_string() && operation["summary"].is_string());
        }
    }
}

/// Generated requests, valid and not, and sequences of them: every answer is one that the specification has.
#[test]
fn schemathesis_finds_nothing() {
    let policy = "backend: {memory: {}}\nacquire: {maxWait: 50ms}\nlease: {ttl: 1s, maxTtl: 2s, maxHold: 2s}\n";
    let sidecar = Sidecar::with(&[("p", policy)], |_| ());
    let root = root();
    let ran = Command::new(installed())
        .arg("--config-file")
        .arg(root.join("sidecar/tests/http/schemathesis.toml"))
        .arg("run")
        .arg(root.join("docs/openapi.yaml"))
        .args(["--url", &format!("http://{}", sidecar.address)])
        .args(["--seed", "1", "--max-examples", "15", "--max-time", BUDGET])
        .args([
            "--request-timeout",
            "10",
            "--no-color",
            "--generation-database",
            "none",
        ])
        .current_dir(sidecar.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(
        said.contains("Tested: 9"),
        "it tested every operation: {said}"
    );
    assert_eq!(
        sidecar.call("GET", "/v1/locks/p", "").status,
        200,
        "and the server is still there"
    );
}

/// The program, in an environment of its own under `target/`.
fn installed() -> PathBuf {
    let folder = root()
        .join("target")
        .join(format!("schemathesis-{SCHEMATHESIS}"));
    let program = folder.join("bin/st");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let package = format!("schemathesis=={SCHEMATHESIS}");
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", &package]));
    }
    program
}

fn run(command: &mut Command) {
    let said = command.output();
    let is_done = said.as_ref().is_ok_and(|said| said.status.success());
    assert!(
        is_done,
        "{command:?}: {said:?}; this needs `apt-get install python3-venv` and access to PyPI"
    );
}
