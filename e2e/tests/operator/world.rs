//! An API server with the chart installed, and operators before it.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use http::{Method, StatusCode};
use hyper::body::Bytes;
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use pawl_crds::LockPolicy;
use pawl_e2e::{
    chart::{folder, helm::Helm},
    http::Connection,
    server::{
        Process, Program, free_port,
        kubernetes::{Account, KubernetesOptions, KubernetesServer},
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub(super) const NAMESPACE: &str = "pawl-system";
/// How long anything may take on a crowded machine that is not itself what is tested.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// An API server with the chart `pawl` in it.
pub(super) struct World {
    pub(super) server: KubernetesServer,
    pub(super) client: Client,
    operator: Account,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(KubernetesOptions::default()).await
    }

    pub(super) async fn with(options: KubernetesOptions) -> Self {
        let server = KubernetesServer::start_with(options);
        server.namespace(NAMESPACE).await;
        let kubeconfig = server.kubeconfig(server.admin()).display().to_string();
        let chart = folder("pawl").display().to_string();
        let arguments = [
            "install",
            "pawl",
            &chart,
            "--namespace",
            NAMESPACE,
            "--kubeconfig",
            &kubeconfig,
            "--no-hooks",
        ];
        if let Err(error) = Helm::new().run(arguments) {
            panic!("helm install: {error}");
        }
        let operator = server.token(NAMESPACE, "pawl-operator").await;
        let client = server.client();
        Self {
            server,
            client,
            operator,
        }
    }

    /// Starts an operator of this name, with the account of the chart.
    pub(super) fn operator(&self, name: &str) -> Operator {
        operator(name, &self.server.kubeconfig(&self.operator))
    }

    /// The same, which reaches the API server at another address.
    pub(super) fn operator_at(&self, name: &str, url: &str) -> Operator {
        operator(name, &self.server.kubeconfig_at(&self.operator, url))
    }

    /// Leads the webhook's calls to an operator: the API server reaches a Service by its external name.
    pub(super) async fn route_to(&self, port: u16) {
        let services: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        // A Service of another type cannot become one of this type in every version.
        let _ = services
            .delete("pawl-webhook", &DeleteParams::default())
            .await;
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "pawl-webhook", "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        });
        let service = serde_json::from_value(service).expect("it is a Service");
        services
            .create(&PostParams::default(), &service)
            .await
            .expect("a Service can be made");
        let hooks: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let patch = json!({"webhooks": [{
            "name": "inject.pawl.dev", "clientConfig": {"service": {
                "name": "pawl-webhook", "namespace": NAMESPACE, "port": port, "path": "/inject",
            }},
        }]});
        hooks
            .patch(
                "pawl-inject",
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
            .expect("the configuration can be changed");
    }

    /// An operator that is ready and that the webhook's calls go to.
    pub(super) async fn running(&self) -> Operator {
        let operator = self.operator("pawl-operator-a");
        self.route_to(operator.webhook).await;
        operator.ready().await;
        operator
    }

    pub(super) fn policies(&self, namespace: &str) -> Api<LockPolicy> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a policy with this spec.
    pub(super) async fn policy(&self, namespace: &str, name: &str, spec: &Value) -> LockPolicy {
        let policy = json!({
            "apiVersion": "pawl.dev/v1alpha1", "kind": "LockPolicy",
            "metadata": {"name": name}, "spec": spec,
        });
        self.policies(namespace)
            .patch(
                name,
                &PatchParams::apply("tests").force(),
                &Patch::Apply(policy),
            )
            .await
            .expect("the policy is taken")
    }

    /// Waits until a policy's status is as it should be; it is answered with how long that took.
    pub(super) async fn until_policy(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> (Value, Duration) {
        let start = Instant::now();
        loop {
            let policy = self
                .policies(namespace)
                .get(name)
                .await
                .expect("the policy is there");
            let status = serde_json::to_value(&policy.status).expect("it is JSON");
            if is_so(&status) {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "never {what}: {status:#}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn operator(name: &str, kubeconfig: &std::path::Path) -> Operator {
    let folder = TempDir::with_prefix("pawl-operator-").expect("a folder can be made");
    let (admin, webhook) = (free_port(), free_port());
    let process = Process::start(
        Program {
            name: binary(),
            package: "pawl-operator: cargo build -p pawl-operator",
        },
        [
            format!("--namespace={NAMESPACE}"),
            format!("--pod-name={name}"),
            "--sidecar-image=pawl-sidecar:test".to_owned(),
            format!("--webhook-listen=127.0.0.1:{webhook}"),
            format!("--admin=127.0.0.1:{admin}"),
        ],
        &[("KUBECONFIG", OsString::from(kubeconfig))],
        None,
        &folder.path().join("log"),
    );
    Operator {
        process,
        admin,
        webhook,
        _folder: folder,
    }
}

/// A condition of a status as `"True/Reason"`.
pub(super) fn condition(status: &Value, r#type: &str) -> String {
    let conditions = status["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == r#type);
    let text = |field: &str| found.map_or("", |found| found[field].as_str().unwrap_or_default());
    format!("{}/{}", text("status"), text("reason"))
}

/// A running operator. Dropping it kills it.
pub(super) struct Operator {
    pub(super) process: Process,
    admin: u16,
    pub(super) webhook: u16,
    _folder: TempDir,
}

impl Operator {
    /// Waits until it is ready.
    pub(super) async fn ready(&self) {
        let start = Instant::now();
        loop {
            let answer = self.ask("/readyz").await;
            if matches!(answer, Some((StatusCode::OK, _))) {
                return;
            }
            let log = self.process.log();
            assert!(!self.process.has_ended(), "it ended: {log}");
            assert!(start.elapsed() < PATIENCE, "not ready: {answer:?} {log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its admin server says.
    pub(super) async fn ask(&self, path: &str) -> Option<(StatusCode, Bytes)> {
        let address = ([127, 0, 0, 1], self.admin).into();
        let ask = async {
            let mut admin = Connection::open(address).await.ok()?;
            admin.send(Method::GET, path, Bytes::new()).await.ok()
        };
        tokio::time::timeout(Duration::from_secs(5), ask)
            .await
            .ok()?
    }

    /// Its metrics, by name with labels.
    pub(super) async fn metrics(&self) -> BTreeMap<String, f64> {
        let (_, text) = self.ask("/metrics").await.expect("it answers");
        let text = String::from_utf8(text.to_vec()).expect("it is text");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    pub(super) async fn leads(&self) -> bool {
        self.metrics().await.get("pawl_operator_leader") == Some(&1.0)
    }

    /// Waits until it leads.
    pub(super) async fn until_it_leads(&self) {
        let start = Instant::now();
        while !self.leads().await {
            assert!(
                start.elapsed() < PATIENCE,
                "never leads: {}",
                self.process.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells it to end and waits until it has; how long that took.
    pub(super) async fn stopped(&self) -> Duration {
        let start = Instant::now();
        self.process.signal(Signal::TERM);
        while !self.process.has_ended() {
            assert!(
                start.elapsed() < PATIENCE,
                "it does not end: {}",
                self.process.log()
            );
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    /// Its resident memory, in bytes.
    pub(super) async fn resident(&self) -> f64 {
        self.metrics().await["process_resident_memory_bytes"]
    }
}

/// The binary that was built with the running test.
fn binary() -> &'static str {
    use std::sync::OnceLock;
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a program knows where it is");
        let built = test
            .ancestors()
            .nth(2)
            .map(|folder| folder.join("pawl-operator"));
        let found = built.filter(|path| path.is_file());
        found
            .unwrap_or_else(|| PathBuf::from("pawl-operator"))
            .display()
            .to_string()
    })
}
