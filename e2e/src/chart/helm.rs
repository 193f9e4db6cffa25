//! Running helm.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;

use super::folder;

/// Where helm is, if not where `scripts/need-cluster` puts it.
const BINARY: &str = "PAWL_HELM";

/// Helm, with nothing of the machine's own configuration.
#[derive(Debug)]
pub struct Helm {
    home: TempDir,
}

impl Default for Helm {
    fn default() -> Self {
        Self::new()
    }
}

impl Helm {
    /// With a home of its own.
    ///
    /// # Panics
    /// If no folder can be made.
    pub fn new() -> Self {
        let home = TempDir::with_prefix("pawl-helm-").expect("a folder can be made");
        Self { home }
    }

    /// Runs helm; its output, or what it complains of.
    ///
    /// # Errors
    /// What it said when it failed.
    ///
    /// # Panics
    /// If helm is not there, with the command that builds it.
    pub fn run(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String, String> {
        let helm = binary();
        let output = Command::new(&helm)
            .args(arguments)
            .env("HELM_CACHE_HOME", self.home.path())
            .env("HELM_CONFIG_HOME", self.home.path())
            .env("HELM_DATA_HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", helm.display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    /// `helm template` of a chart of the repository, as the release of its own name, for Kubernetes 1.34.
    ///
    /// # Errors
    /// What helm complains of.
    pub fn template(&self, chart: &str, arguments: &[&str]) -> Result<String, String> {
        let path = folder(chart).display().to_string();
        let namespace = if chart == "pawl" {
            "pawl-system"
        } else {
            "bank"
        };
        let fixed = ["template", chart, &path, "--namespace", namespace];
        let version = ["--kube-version", "1.34.0"];
        self.run(fixed.iter().chain(&version).chain(arguments))
    }

    /// The objects that a chart renders.
    ///
    /// # Panics
    /// If helm complains.
    pub fn objects(&self, chart: &str, arguments: &[&str]) -> Vec<Value> {
        let text = self.template(chart, arguments);
        documents(&text.unwrap_or_else(|error| panic!("{chart}: {error}")))
    }
}

/// The documents of a YAML stream that are not empty.
///
/// # Panics
/// If it is not YAML.
pub fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("it is YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

fn binary() -> PathBuf {
    let built = super::root().join("target/cluster/bin/helm");
    let path = std::env::var_os(BINARY).map_or(built, PathBuf::from);
    assert!(
        Path::new(&path).exists(),
        "{} is not there: build it with scripts/need-cluster, or say where it is with {BINARY}",
        path.display()
    );
    path
}
