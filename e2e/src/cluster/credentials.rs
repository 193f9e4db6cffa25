//! Certificates, keys and kubeconfigs of a cluster.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::KeyPair;
use serde_json::json;

use super::{
    error::{Result, at},
    layout::Layout,
    network::Network,
};
use crate::server::certs::{Authority, Identity};

/// The node's name.
pub const NODE: &str = "pawl";
/// The port of the API server.
pub const API_PORT: u16 = 6443;

/// Makes all of them anew, in `run/credentials` and the cluster's kubeconfig.
pub fn make(layout: &Layout, network: Network) -> Result<()> {
    let folder = layout.state().join("credentials");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let mut permissions = fs::metadata(&folder).map_err(at(&folder))?.permissions();
    permissions.set_mode(0o700);
    fs::set_permissions(&folder, permissions).map_err(at(&folder))?;

    let authority = Authority::new("pawl-cluster");
    write(&folder.join("authority.crt"), &authority.certificate())?;
    let (node, api) = (network.node().to_string(), network.api().to_string());
    let server = authority.issue(
        &[
            "kubernetes.default.svc",
            "kubernetes.default",
            "kubernetes",
            "localhost",
            "127.0.0.1",
            &node,
            &api,
        ],
        false,
    );
    write_identity(&folder, "api", &server)?;
    write_identity(&folder, "kubelet", &authority.issue(&[NODE, &node], false))?;
    let to_kubelet = authority.issue_client("kube-apiserver", "system:masters");
    write_identity(&folder, "api-to-kubelet", &to_kubelet)?;
    let accounts = KeyPair::generate().expect("a key can be made");
    write(&folder.join("accounts.key"), &accounts.serialize_pem())?;
    write(&folder.join("accounts.pub"), &accounts.public_key_pem())?;

    for (component, user, group) in [
        (
            "kube-controller-manager",
            "system:kube-controller-manager",
            "system:masters",
        ),
        ("kube-scheduler", "system:kube-scheduler", "system:masters"),
        ("kube-proxy", "system:kube-proxy", "system:node-proxier"),
        ("kubelet", "system:node:pawl", "system:nodes"),
    ] {
        let file = folder.join(format!("{component}.kubeconfig"));
        let client = authority.issue_client(user, group);
        write_kubeconfig(&file, &authority, &client, "127.0.0.1")?;
    }
    let admin = authority.issue_client("admin", "system:masters");
    write_kubeconfig(&layout.kubeconfig(), &authority, &admin, &node)
}

fn write_kubeconfig(
    file: &Path,
    authority: &Authority,
    client: &Identity,
    host: &str,
) -> Result<()> {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pawl",
        "clusters": [{"name": "pawl", "cluster": {
            "server": format!("https://{host}:{API_PORT}"),
            "certificate-authority-data": encode(&authority.certificate()),
        }}],
        "users": [{"name": "pawl", "user": {
            "client-certificate-data": encode(&client.certificate),
            "client-key-data": encode(&client.key),
        }}],
        "contexts": [{"name": "pawl", "context": {"cluster": "pawl", "user": "pawl"}}],
    });
    write(file, &config.to_string())
}

fn write_identity(folder: &Path, name: &str, identity: &Identity) -> Result<()> {
    write(&folder.join(format!("{name}.crt")), &identity.certificate)?;
    write(&folder.join(format!("{name}.key")), &identity.key)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(at(file))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(at(file))
}
