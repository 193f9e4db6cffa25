//! Names that other objects carry: labels, annotations, environment variables, files.
//!
//! They are part of the API: a renamed constant breaks pods that are already out there.

/// API group of everything here.
pub const GROUP: &str = "pawl.dev";
/// API version, without the group.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of a policy document.
pub const API_VERSION: &str = "pawl.dev/v1alpha1";
/// `kind` of a policy document.
pub const KIND: &str = "LockPolicy";
/// Field manager of what the operator applies.
pub const FIELD_MANAGER: &str = "pawl-operator";
/// Namespace of a document that names none, as for `kubectl apply` without a context.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Longest name of a policy, in bytes. It becomes part of object, volume and directory names.
pub const MAX_POLICY_NAME: usize = 63;

/// Labels.
pub mod labels {
    /// On a pod: `"true"` asks for the sidecar. The webhook looks at no other pod.
    pub const INJECT: &str = "pawl.dev/inject";
    /// On a rendered `ConfigMap`: the policy it was made from. On a Lease of the backend `kubernetes`: the policy whose
    /// key it is.
    pub const POLICY: &str = "pawl.dev/policy";
    /// On everything the operator makes; its value is [`super::FIELD_MANAGER`].
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
}

/// Annotations, all on pods.
pub mod annotations {
    /// Set by the user: the policies that the pod may lock with, names parted by commas, at most
    /// [`super::MAX_POLICIES_PER_POD`], all in the pod's namespace.
    pub const POLICIES: &str = "pawl.dev/policies";
    /// Set by the user: port of the lock API on the loopback interface, 1024 to 65535. Default
    /// [`super::DEFAULT_PORT`].
    pub const PORT: &str = "pawl.dev/port";
    /// Set by the user: port of the admin server, 1024 to 65535. Default [`super::DEFAULT_ADMIN_PORT`].
    pub const ADMIN_PORT: &str = "pawl.dev/admin-port";
    /// Set by the user: image of the sidecar instead of the operator's default.
    pub const IMAGE: &str = "pawl.dev/image";
    /// Set by the user: resources of the sidecar, JSON as in a container (`{"requests":{"cpu":"10m"}}`). Wins
    /// over `spec.sidecar.resources` of the policies.
    pub const RESOURCES: &str = "pawl.dev/resources";
    /// Set by the user: `"true"` mounts a Unix socket of the lock API into the application's containers too.
    pub const SOCKET: &str = "pawl.dev/socket";
    /// Set by the webhook: version of the sidecar that was injected; says that the pod is done.
    pub const INJECTED: &str = "pawl.dev/injected";
    /// Set by the operator on a bound pod when a policy's `ConfigMap` changed: the sum of what is rendered. The
    /// change of the pod makes the kubelet refresh the mount at once instead of at its next minute.
    pub const POLICY_SUM: &str = "pawl.dev/policy-sum";
}

/// Environment variables of the sidecar, and those that the application's containers are given.
pub mod env {
    /// Sidecar: directory of policies, one file each.
    pub const POLICIES: &str = "PAWL_POLICIES";
    /// Sidecar: directory of secrets, one directory a policy.
    pub const SECRETS: &str = "PAWL_SECRETS";
    /// Sidecar: address of the lock API.
    pub const LISTEN: &str = "PAWL_LISTEN";
    /// Sidecar: address of the admin server.
    pub const ADMIN: &str = "PAWL_ADMIN";
    /// Sidecar: path of the Unix socket.
    pub const SOCKET: &str = "PAWL_SOCKET";
    /// Sidecar: display name of the holder; the pod's name when injected.
    pub const IDENTITY: &str = "PAWL_IDENTITY";
    /// Application: base URL of the lock API.
    pub const URL: &str = "PAWL_URL";
    /// Application: file with the bearer token, where a policy asks for one.
    pub const TOKEN_FILE: &str = "PAWL_TOKEN_FILE";
}

/// Files of one policy below the directory of secrets. The webhook projects the Secrets that the policy names
/// to these; without a cluster put the files there by hand.
pub mod secret_files {
    /// From `credentialsSecretRef`: user name at the backend; absent means the backend's default user.
    pub const USERNAME: &str = "username";
    /// From `credentialsSecretRef`: password at the backend.
    pub const PASSWORD: &str = "password";
    /// From `sentinel.credentialsSecretRef`: user name at the Sentinels.
    pub const SENTINEL_USERNAME: &str = "sentinel-username";
    /// From `sentinel.credentialsSecretRef`: password at the Sentinels.
    pub const SENTINEL_PASSWORD: &str = "sentinel-password";
    /// From `tls.caSecretRef`: certificates of the authorities to trust, PEM.
    pub const CA_CERTIFICATE: &str = "ca.crt";
    /// From `tls.clientCertSecretRef`: our certificate chain, PEM.
    pub const CLIENT_CERTIFICATE: &str = "tls.crt";
    /// From `tls.clientCertSecretRef`: our private key, PEM.
    pub const CLIENT_KEY: &str = "tls.key";
}

/// Name of the injected container.
pub const SIDECAR_CONTAINER: &str = "pawl-sidecar";
/// Port of the lock API where nothing else is said.
pub const DEFAULT_PORT: u16 = 4600;
/// Port of the admin server where nothing else is said.
pub const DEFAULT_ADMIN_PORT: u16 = 4601;
/// Most policies that one pod can be bound to.
pub const MAX_POLICIES_PER_POD: usize = 16;
