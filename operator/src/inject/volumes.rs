//! Volumes of the sidecar, and where they are mounted.

use std::sync::Arc;

use pawl_crds::{
    Chosen, LockPolicy, SecretRef, Tls,
    names::secret_files::{
        CA_CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY, PASSWORD, SENTINEL_PASSWORD,
        SENTINEL_USERNAME, USERNAME,
    },
};
use serde_json::{Value, json};

/// Rendered policies.
pub(super) const POLICIES: Volume = Volume("pawl-policies", "/etc/pawl/policies");
/// Secrets that the policies name; in the sidecar only.
pub(super) const SECRETS: Volume = Volume("pawl-secrets", "/etc/pawl/secrets");
/// The bearer token, in memory.
pub(super) const TOKEN: Volume = Volume("pawl-token", "/var/run/pawl/token");
/// The Unix socket.
pub(super) const SOCKET: Volume = Volume("pawl-socket", "/var/run/pawl/socket");
/// The service account of the pod; in the sidecar only.
pub(super) const API_ACCESS: Volume = Volume(
    "pawl-api-access",
    "/var/run/secrets/kubernetes.io/serviceaccount",
);
/// All of them.
pub(super) const ALL: [Volume; 5] = [POLICIES, SECRETS, TOKEN, SOCKET, API_ACCESS];

/// File of the bearer token.
pub(super) const TOKEN_FILE: &str = "/var/run/pawl/token/token";
/// File of the Unix socket.
pub(super) const SOCKET_FILE: &str = "/var/run/pawl/socket/pawl.sock";

/// How long the API server's token lives, in seconds; the kubelet renews it. What the automount asks for: API servers make
/// of exactly this number a token that is warned about instead of refused while clients are slow to read it again.
const API_TOKEN_SECONDS: u32 = 3607;

/// A volume of ours: its name and where it is mounted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Volume(pub(super) &'static str, pub(super) &'static str);

impl Volume {
    /// The mount; `read_only` is said where it is so.
    pub(super) fn mount(self, read_only: bool) -> Value {
        let mut mount = json!({"name": self.0, "mountPath": self.1});
        if read_only {
            mount["readOnly"] = true.into();
        }
        mount
    }
}

/// The rendered policies; each may come later.
pub(super) fn policies(names: &[String]) -> Value {
    let sources: Vec<Value> = names
        .iter()
        .map(|name| json!({"configMap": {"name": format!("pawl-policy-{name}"), "optional": true}}))
        .collect();
    json!({"name": POLICIES.0, "projected": {"sources": sources}})
}

/// The Secrets that the policies name, `None` when they name none. Only the keys that a policy needs are projected.
pub(super) fn secrets(policies: &[Arc<LockPolicy>]) -> Option<Value> {
    let sources: Vec<Value> = policies
        .iter()
        .flat_map(|policy| of_policy(policy))
        .collect();
    (!sources.is_empty()).then(|| json!({"name": SECRETS.0, "projected": {"sources": sources}}))
}

fn of_policy(policy: &LockPolicy) -> Vec<Value> {
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    let source = |secret: &SecretRef, files: &[(&str, &str)]| {
        let items: Vec<Value> = files
            .iter()
            .map(|(key, file)| json!({"key": key, "path": format!("{name}/{file}")}))
            .collect();
        json!({"secret": {"name": secret.name, "optional": true, "items": items}})
    };
    let login = [(USERNAME, USERNAME), (PASSWORD, PASSWORD)];
    let (credentials, tls) = named(policy);
    let sentinel = match policy.spec.backend.chosen() {
        Some(Chosen::Redis(redis)) => redis
            .sentinel
            .as_ref()
            .and_then(|sentinel| sentinel.credentials_secret_ref.as_ref()),
        _ => None,
    };
    let authorities = tls.and_then(|tls| tls.ca_secret_ref.as_ref());
    let client = tls.and_then(|tls| tls.client_cert_secret_ref.as_ref());
    [
        credentials.map(|secret| source(secret, &login)),
        sentinel.map(|secret| {
            source(
                secret,
                &[(USERNAME, SENTINEL_USERNAME), (PASSWORD, SENTINEL_PASSWORD)],
            )
        }),
        authorities.map(|secret| source(secret, &[(CA_CERTIFICATE, CA_CERTIFICATE)])),
        client.map(|secret| {
            source(
                secret,
                &[
                    (CLIENT_CERTIFICATE, CLIENT_CERTIFICATE),
                    (CLIENT_KEY, CLIENT_KEY),
                ],
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn named(policy: &LockPolicy) -> (Option<&SecretRef>, Option<&Tls>) {
    match policy.spec.backend.chosen() {
        Some(Chosen::Redis(b)) => (b.credentials_secret_ref.as_ref(), b.tls.as_ref()),
        Some(Chosen::Redlock(b)) => (b.credentials_secret_ref.as_ref(), b.tls.as_ref()),
        Some(Chosen::Postgres(b)) => (b.credentials_secret_ref.as_ref(), b.tls.as_ref()),
        Some(Chosen::Etcd(b)) => (b.credentials_secret_ref.as_ref(), b.tls.as_ref()),
        Some(Chosen::Zookeeper(b)) => (b.credentials_secret_ref.as_ref(), None),
        Some(Chosen::Kubernetes(_) | Chosen::Memory(_)) | None => (None, None),
    }
}

/// A small file in memory: nothing of it reaches a disk.
pub(super) fn in_memory(volume: Volume) -> Value {
    json!({"name": volume.0, "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}})
}

/// What the automount of the service account gives, for the sidecar alone.
pub(super) fn api_access() -> Value {
    json!({"name": API_ACCESS.0, "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": API_TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
