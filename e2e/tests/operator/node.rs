//! What a node does for a pod, as far as policies are concerned.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use http::Method;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use pawl_e2e::{http::Connection, sidecar::Sidecar};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::world::{PATIENCE, World};

/// Pods of one namespace, with their sidecars.
pub(super) struct Node {
    client: Client,
    namespace: String,
    pub(super) pods: Vec<Running>,
    kubelets: JoinSet<()>,
}

/// A pod and the sidecar that its status points at.
pub(super) struct Running {
    pub(super) name: String,
    pub(super) sidecar: Sidecar,
}

impl Node {
    pub(super) async fn new(world: &World, namespace: &str) -> Self {
        world.server.namespace(namespace).await;
        Self {
            client: world.client.clone(),
            namespace: namespace.to_owned(),
            pods: Vec::new(),
            kubelets: JoinSet::new(),
        }
    }

    /// Makes a pod that is bound to these policies; the webhook injects its sidecar, and a process is started that is it.
    pub(super) async fn run(&mut self, name: &str, policies: &str) {
        let folder = TempDir::with_prefix("pawl-node-").expect("a folder can be made");
        let mount = folder.path().join("policies");
        fs::create_dir(&mount).expect("a folder can be made");
        let sidecar = Sidecar::start_with(&[], name, &mount).await;
        let pod = self.create(name, policies, Some(sidecar.admin)).await;
        assert_eq!(
            pod.spec
                .and_then(|spec| spec.init_containers)
                .map(|containers| containers[0].name.clone()),
            Some("pawl-sidecar".to_owned()),
            "the webhook injects it"
        );
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let (name, policies) = (name.to_owned(), policies.to_owned());
        let kubelet = kubelet(client, namespace, name.clone(), policies, folder);
        self.kubelets.spawn(kubelet);
        self.pods.push(Running { name, sidecar });
    }

    /// The pod as an object, running at this address.
    pub(super) async fn create(
        &self,
        name: &str,
        policies: &str,
        admin: Option<SocketAddr>,
    ) -> Pod {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let port = admin.map_or(4601, |admin| admin.port()).to_string();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "labels": {"pawl.dev/inject": "true"},
                "annotations": {"pawl.dev/policies": policies, "pawl.dev/admin-port": port},
            },
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        });
        let pod = serde_json::from_value(pod).expect("it is a pod");
        let made = api.create(&PostParams::default(), &pod).await;
        let made = made.unwrap_or_else(|error| panic!("the pod {name} is refused: {error}"));
        let address = admin.map_or_else(|| "127.0.0.1".to_owned(), |admin| admin.ip().to_string());
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        }});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("a status can be written");
        made
    }
}

impl Running {
    /// The generation of a policy that the sidecar serves.
    pub(super) async fn serves(&self, policy: &str) -> Option<i64> {
        let mut admin = Connection::open(self.sidecar.admin).await.ok()?;
        let (_, body) = admin
            .send(Method::GET, "/status", Bytes::new())
            .await
            .ok()?;
        let status: Value = serde_json::from_slice(&body).ok()?;
        let policies = status["policies"].as_array()?;
        let found = policies.iter().find(|row| row["name"] == policy)?;
        found["observedGeneration"].as_i64()
    }

    pub(super) async fn until_it_serves(&self, policy: &str, generation: Option<i64>) {
        let start = Instant::now();
        while self.serves(policy).await != generation {
            assert!(
                start.elapsed() < PATIENCE,
                "{}: never {generation:?}: {}",
                self.name,
                self.sidecar.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A mount that follows its ConfigMaps only when the pod changes, as a kubelet's does within its minute.
async fn kubelet(
    client: Client,
    namespace: String,
    name: String,
    policies: String,
    folder: TempDir,
) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut seen = None;
    for version in 0.. {
        let Ok(pod) = pods.get(&name).await else {
            return;
        };
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let sum = annotations.get("pawl.dev/policy-sum").cloned();
        if version == 0 || seen != sum {
            let mut files = BTreeMap::new();
            for policy in policies.split(',') {
                let map = maps.get_opt(&format!("pawl-policy-{policy}")).await;
                files.extend(
                    map.ok()
                        .flatten()
                        .and_then(|map| map.data)
                        .unwrap_or_default(),
                );
            }
            swap(folder.path(), version, &files);
            seen = sum;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A new directory of files, and a link that is swapped: as the kubelet writes a mount.
fn swap(folder: &Path, version: u32, files: &BTreeMap<String, String>) {
    let mount = folder.join("policies");
    let data = format!("..{version}");
    fs::create_dir(mount.join(&data)).expect("a folder can be made");
    for (file, text) in files {
        fs::write(mount.join(&data).join(file), text).expect("the folder can be written");
    }
    std::os::unix::fs::symlink(&data, mount.join("..next")).expect("a link can be made");
    fs::rename(mount.join("..next"), mount.join("..data")).expect("a link can be swapped");
    let there = fs::read_dir(&mount).expect("the folder can be read");
    let shown = there
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    for gone in shown.filter(|name| !name.starts_with("..") && !files.contains_key(name)) {
        fs::remove_file(mount.join(gone)).expect("a link can be removed");
    }
    for file in files.keys() {
        let _ = std::os::unix::fs::symlink(Path::new("..data").join(file), mount.join(file));
    }
}
