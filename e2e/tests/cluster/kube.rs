//! The cluster under test, by kubectl and helm.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use pawl_e2e::{chart::helm::Helm, cluster::Layout};
use pawl_kit::clock::Clock;
use serde_json::Value;

use super::lifecycle;

/// How long a pod may take to do what it is for, on a machine that builds something beside it.
pub(super) const PATIENCE: u64 = 120;

/// How long one kubectl may take, in seconds.
const LONGEST: u64 = 150;

/// A cluster; its own one is ended when this is dropped.
pub(super) struct Kube {
    kubeconfig: PathBuf,
    is_ours: bool,
    clock: Clock,
    helm: Helm,
}

impl Kube {
    pub(super) fn start() -> Self {
        // Not `KUBECONFIG` itself: whoever has one set for other work, runs all tests of the workspace without a thought of it.
        let given = std::env::var_os("PAWL_CLUSTER_KUBECONFIG").filter(|path| !path.is_empty());
        let is_ours = given.is_none();
        let kubeconfig = given.map_or_else(lifecycle::up, PathBuf::from);
        Self {
            kubeconfig,
            is_ours,
            clock: Clock::system(),
            helm: Helm::new(),
        }
    }

    /// Runs kubectl; its output, or what it complains of.
    pub(super) fn ask(&self, words: &[&str], input: &str) -> Result<String, String> {
        let mut child = self.kubectl(words).spawn().unwrap();
        // Whoever does not read its input closes it.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    fn kubectl(&self, words: &[&str]) -> Command {
        // Bounded: what hangs is to fail here, with its words.
        let mut kubectl = Command::new("timeout");
        kubectl
            .arg(LONGEST.to_string())
            .arg(Layout::of_checkout().program("kubernetes").unwrap())
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        kubectl
    }

    /// The same where it has to work.
    pub(super) fn run(&self, words: &[&str]) -> String {
        self.ask(words, "")
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", words.join(" ")))
    }

    /// An object or a list as JSON; null if it is not there.
    pub(super) fn get(&self, words: &[&str]) -> Value {
        let words = [&["get", "-o", "json", "--ignore-not-found"], words].concat();
        serde_json::from_str(&self.run(&words)).unwrap_or(Value::Null)
    }

    /// `kubectl apply` of documents.
    pub(super) fn apply(&self, namespace: &str, documents: &str) {
        self.ask(&["apply", "-n", namespace, "-f", "-"], documents)
            .unwrap_or_else(|error| panic!("apply: {error}\n{documents}"));
    }

    /// Runs a script in a container `app` of a pod. It ends with its last process, so those in the background close what they
    /// inherit.
    pub(super) fn exec(&self, namespace: &str, pod: &str, script: &str) -> Result<String, String> {
        self.ask(
            &[
                "exec",
                "-n",
                namespace,
                pod,
                "-c",
                "app",
                "--",
                "/bin/bash",
                "-c",
                script,
            ],
            "",
        )
    }

    /// What the application of a pod has printed.
    pub(super) fn log(&self, namespace: &str, pod: &str) -> String {
        self.run(&["logs", "-n", namespace, pod, "-c", "app"])
    }

    /// Follows the log of a container until its end, each line behind the time as the kubelet saw it.
    pub(super) fn follow(&self, namespace: &str, pod: &str, container: &str) -> Child {
        let words = [
            "logs",
            "-f",
            "--timestamps",
            "-n",
            namespace,
            pod,
            "-c",
            container,
        ];
        self.kubectl(&words).spawn().unwrap()
    }

    /// Answers of HTTP services in the cluster, asked through the API server as every cluster can. `target` is
    /// `SERVICE:PORT/path`.
    pub(super) fn proxy(&self, namespace: &str, target: &str) -> Option<String> {
        let (service, path) = target.split_once('/').unwrap();
        let path = format!("/api/v1/namespaces/{namespace}/services/{service}/proxy/{path}");
        self.ask(&["get", "--raw", &path], "").ok()
    }

    /// The layout of the tests' own cluster; there is none with a cluster of somebody else, whose processes are not ours to stop.
    pub(super) fn own(&self) -> Option<Layout> {
        self.is_ours.then(lifecycle::layout)
    }

    /// Makes a namespace that enforces the Pod Security Standard `restricted`.
    pub(super) fn namespace(&self, name: &str) {
        self.apply(
            "default",
            &format!(
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n"
            ),
        );
    }

    /// Waits until something is there, looking four times a second.
    pub(super) fn until<T>(
        &self,
        what: &str,
        seconds: u64,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let start = self.clock.now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let waited = self.clock.now().saturating_since(start);
            assert!(
                waited < Duration::from_secs(seconds),
                "not in {seconds} s: {what}"
            );
            sleep(Duration::from_millis(250));
        }
    }

    /// Seconds since the machine started, for measuring.
    pub(super) fn now(&self) -> pawl_lock::Instant {
        self.clock.now()
    }

    /// Waits until a pod is ready.
    pub(super) fn ready(&self, namespace: &str, pod: &str) {
        self.until(&format!("{pod} is ready"), PATIENCE, || {
            is_true(&self.get(&["pod", "-n", namespace, pod]), "Ready").then_some(())
        });
    }

    /// `helm` for a release of a chart of this repository.
    pub(super) fn helm(&self, words: &[&str]) -> Result<String, String> {
        let kubeconfig = self.kubeconfig.display().to_string();
        self.helm
            .run(words.iter().copied().chain(["--kubeconfig", &kubeconfig]))
    }

    /// `helm upgrade --install` of a chart, waiting until it is ready. `texts` are values that look like numbers.
    pub(super) fn release(
        &self,
        name: &str,
        chart: &Path,
        namespace: &str,
        values: &str,
        texts: &str,
    ) {
        let path = chart.display().to_string();
        self.helm(&[
            "upgrade",
            "--install",
            name,
            &path,
            "--namespace",
            namespace,
            "--create-namespace",
            "--wait",
            "--timeout",
            "3m",
            "--set",
            values,
            "--set-string",
            texts,
        ])
        .unwrap_or_else(|error| panic!("helm upgrade --install {name}: {error}"));
    }

    /// Shows what there is, after a failure.
    pub(super) fn dump(&self) {
        for words in [
            &[
                "get",
                "pods,lockpolicies,deployments,jobs",
                "-A",
                "-o",
                "wide",
            ][..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "-n",
                "pawl-system",
                "-l",
                "app.kubernetes.io/name=pawl",
                "--tail=30",
            ],
        ] {
            let said = self.ask(words, "").unwrap_or_else(|error| error);
            println!("--- kubectl {}\n{said}", words.join(" "));
        }
        // kubectl knows no logs of all namespaces.
        let pods = self.ask(
            &[
                "get",
                "pods",
                "-A",
                "--no-headers",
                "-o",
                "custom-columns=:.metadata.namespace,:.metadata.name",
            ],
            "",
        );
        for line in pods.unwrap_or_default().lines() {
            let Some((namespace, pod)) = line.split_once(char::is_whitespace) else {
                continue;
            };
            let words = [
                "logs",
                "-n",
                namespace,
                pod.trim(),
                "--all-containers",
                "--tail=15",
                "--prefix",
            ];
            let said = self.ask(&words, "").unwrap_or_else(|error| error);
            println!("--- logs of {namespace}/{}\n{said}", pod.trim());
        }
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        if self.is_ours {
            lifecycle::down();
        }
    }
}

/// Whether an object has a condition with the status `True`.
pub(super) fn is_true(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["type"] == condition && one["status"] == "True")
}
