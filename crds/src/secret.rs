//! Secrets by name, and what TLS needs of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Secret in the policy's own namespace. There is no field for another namespace: who may write a policy in one
/// namespace must not reach the Secrets of another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret, in the policy's own namespace. 1 to 253 characters. Off a cluster the name is not
    /// looked up: the files are read from the directory of secrets that the sidecar is given.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: String,
}

/// TLS to the backend. The server's certificate and name are always verified; there is no way to switch that off
/// and no fallback to plain text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Secret whose key `ca.crt` holds the authorities to trust (PEM, one or more certificates). Absent: the public
    /// web authorities. Re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
    /// Secret whose keys `tls.crt` and `tls.key` hold the client certificate (PEM) to show to the backend. Absent:
    /// no client certificate. Re-read when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<SecretRef>,
    /// Name that the server's certificate must carry. Absent: the host of the address. 1 to 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = "^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$"
        )
    )]
    pub server_name: Option<String>,
}
