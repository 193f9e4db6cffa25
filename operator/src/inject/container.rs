//! The sidecar's container.

use pawl_crds::names::{SIDECAR_CONTAINER, env};
use serde_json::{Value, json};

use super::{
    Config,
    annotations::Wishes,
    volumes::{self, API_ACCESS, POLICIES, SECRETS, SOCKET, SOCKET_FILE, TOKEN, TOKEN_FILE},
};

/// User and group of the sidecar, as in its image.
const USER: u32 = 65_532;

/// Sidecar: lets every user of the pod read the token and use the socket, since the user of the application is not known
/// here and the volumes are the pod's own.
const SHARED_FILES: &str = "PAWL_SHARED_FILES";
const LOG_FORMAT: &str = "PAWL_LOG_FORMAT";

/// What the bound policies need beside the policies themselves.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a volume of its own, in any combination"
)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Needs {
    /// Some policy asks for the bearer token.
    pub(super) token: bool,
    /// The user asks for the Unix socket.
    pub(super) socket: bool,
    /// Some policy names a Secret.
    pub(super) secrets: bool,
    /// Some policy's backend is the Kubernetes API.
    pub(super) api_access: bool,
}

/// The container. A native sidecar: an init container that is always restarted starts before all that come after it and
/// ends after the application's containers.
pub(super) fn sidecar(config: &Config, wishes: &Wishes, needs: Needs, resources: Value) -> Value {
    let image = wishes.image.as_ref().unwrap_or(&config.image);
    json!({
        "name": SIDECAR_CONTAINER,
        "image": image,
        "imagePullPolicy": config.pull_policy.as_str(),
        "restartPolicy": "Always",
        "env": environment(wishes, needs),
        "ports": [{"name": "pawl-admin", "containerPort": wishes.admin_port, "protocol": "TCP"}],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": wishes.admin_port},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 60,
        },
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": wishes.admin_port},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": resources,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(needs),
    })
}

fn environment(wishes: &Wishes, needs: Needs) -> Vec<Value> {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut all = vec![
        variable(env::POLICIES, POLICIES.1),
        variable(env::SECRETS, SECRETS.1),
        variable(env::LISTEN, &format!("127.0.0.1:{}", wishes.port)),
        variable(env::ADMIN, &format!("0.0.0.0:{}", wishes.admin_port)),
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}),
        variable(LOG_FORMAT, "json"),
    ];
    if needs.token {
        all.push(variable(env::TOKEN_FILE, TOKEN_FILE));
    }
    if needs.socket {
        all.push(variable(env::SOCKET, SOCKET_FILE));
    }
    if needs.token || needs.socket {
        all.push(variable(SHARED_FILES, "true"));
    }
    all
}

fn mounts(needs: Needs) -> Vec<Value> {
    [
        (true, POLICIES.mount(true)),
        (needs.secrets, SECRETS.mount(true)),
        (needs.token, TOKEN.mount(false)),
        (needs.socket, SOCKET.mount(false)),
        (needs.api_access, API_ACCESS.mount(true)),
    ]
    .into_iter()
    .filter_map(|(needed, mount)| needed.then_some(mount))
    .collect()
}

/// What the application's containers are given: variables, and volumes, which they may only read.
pub(super) struct Given {
    /// Name and value, in order.
    pub(super) variables: Vec<(&'static str, String)>,
    /// Where its files are.
    pub(super) volumes: Vec<volumes::Volume>,
}

impl Given {
    /// For a sidecar that listens at `port`, with these needs.
    pub(super) fn new(port: u16, needs: Needs) -> Self {
        let mut given = Self {
            variables: vec![(env::URL, format!("http://127.0.0.1:{port}"))],
            volumes: Vec::new(),
        };
        if needs.token {
            given
                .variables
                .push((env::TOKEN_FILE, TOKEN_FILE.to_owned()));
            given.volumes.push(TOKEN);
        }
        if needs.socket {
            given.variables.push((env::SOCKET, SOCKET_FILE.to_owned()));
            given.volumes.push(SOCKET);
        }
        given
    }
}
