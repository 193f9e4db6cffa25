//! What runs on the node: the programs, their arguments and their configuration.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{
    cgroups,
    credentials::{API_PORT, NODE},
    error::{Error, Result, at},
    images::SANDBOX,
    layout::{INSIDE, Layout, PROGRAMS},
    network::Network,
};

/// A program of the node.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its name, which is that of its log.
    pub name: &'static str,
    /// Its program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What must answer before the next one is started.
    pub answers: Answers,
}

/// How it is seen that a component runs.
#[derive(Clone, Debug)]
pub enum Answers {
    /// It takes connections on this address.
    Tcp(SocketAddr),
    /// It takes connections on this socket.
    Socket(PathBuf),
    /// Nobody waits for it.
    Never,
}

/// All of them, in the order of their start.
pub fn all(network: Network) -> Result<Vec<Component>> {
    let kubernetes = PathBuf::from(PROGRAMS).join("kubernetes");
    let component = |name, arguments: Vec<String>, answers| Component {
        name,
        program: kubernetes.clone(),
        arguments: std::iter::once(name.to_owned()).chain(arguments).collect(),
        answers,
    };
    let local = |port| Answers::Tcp((Ipv4Addr::LOCALHOST, port).into());
    Ok(vec![
        Component {
            name: "etcd",
            program: installed("etcd", "etcd-server")?,
            arguments: etcd(),
            answers: local(2379),
        },
        Component {
            name: "containerd",
            program: installed("containerd", "containerd")?,
            arguments: vec![format!("--config={INSIDE}/config/containerd.toml")],
            answers: Answers::Socket(format!("{INSIDE}/containerd.sock").into()),
        },
        component("kube-apiserver", api_server(network), local(API_PORT)),
        component("kube-controller-manager", controllers(), Answers::Never),
        component("kube-scheduler", scheduler(), Answers::Never),
        component("kubelet", kubelet(network), Answers::Never),
        component(
            "kube-proxy",
            vec![format!("--config={INSIDE}/config/kube-proxy.json")],
            Answers::Never,
        ),
    ])
}

/// Looks for the programs that a cluster is made of.
pub fn check(layout: &Layout) -> Result<()> {
    for program in ["kubernetes", "coredns", "sandbox"] {
        layout.program(program)?;
    }
    for (program, package) in [
        ("etcd", "etcd-server"),
        ("containerd", "containerd"),
        ("runc", "runc"),
        ("ctr", "containerd"),
        ("iptables", "iptables"),
        ("conntrack", "conntrack"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("buildah", "buildah"),
    ] {
        installed(program, package)?;
    }
    if PathBuf::from(CNI).join("ptp").exists() {
        return Ok(());
    }
    Err(missing("the CNI plugin ptp", "containernetworking-plugins"))
}

/// Writes the files that the components read.
pub fn configure(layout: &Layout, network: Network) -> Result<()> {
    let folder = layout.state().join("config");
    fs::create_dir_all(folder.join("cni")).map_err(at(&folder))?;
    for (name, text) in [
        ("containerd.toml", containerd_config()),
        ("kubelet.json", kubelet_config(network).to_string()),
        ("kube-proxy.json", proxy_config(network).to_string()),
        ("cni/pawl.conflist", cni_config(network).to_string()),
        // There is no way out of the cluster, so there is nobody to ask for names outside.
        ("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).map_err(at(&file))?;
    }
    Ok(())
}

const CNI: &str = "/usr/lib/cni";

fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
        .ok_or_else(|| missing(program, package))
}

fn missing(program: &str, package: &str) -> Error {
    Error::Missing {
        program: program.to_owned(),
        install: format!("apt-get install {package}"),
    }
}

fn credential(name: &str) -> String {
    format!("{INSIDE}/credentials/{name}")
}

fn etcd() -> Vec<String> {
    let clients = "http://127.0.0.1:2379";
    let peers = "http://127.0.0.1:2380";
    vec![
        // In memory: nothing of a cluster is kept, and nothing waits for a disk.
        "--data-dir=/run/etcd".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--logger=zap".to_owned(),
    ]
}

fn api_server(network: Network) -> Vec<String> {
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", network.node()),
        format!("--secure-port={API_PORT}"),
        format!("--service-cluster-ip-range={}", network.services()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", credential("accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            credential("accounts.key")
        ),
        format!("--client-ca-file={}", credential("authority.crt")),
        format!("--tls-cert-file={}", credential("api.crt")),
        format!("--tls-private-key-file={}", credential("api.key")),
        format!(
            "--kubelet-certificate-authority={}",
            credential("authority.crt")
        ),
        format!(
            "--kubelet-client-certificate={}",
            credential("api-to-kubelet.crt")
        ),
        format!("--kubelet-client-key={}", credential("api-to-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--shutdown-delay-duration=0s".to_owned(),
    ]
}

fn controllers() -> Vec<String> {
    vec![
        format!(
            "--kubeconfig={}",
            credential("kube-controller-manager.kubeconfig")
        ),
        format!(
            "--service-account-private-key-file={}",
            credential("accounts.key")
        ),
        format!("--root-ca-file={}", credential("authority.crt")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--flex-volume-plugin-dir={INSIDE}/volume-plugins"),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ]
}

fn scheduler() -> Vec<String> {
    vec![
        format!("--kubeconfig={}", credential("kube-scheduler.kubeconfig")),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ]
}

fn kubelet(network: Network) -> Vec<String> {
    vec![
        format!("--config={INSIDE}/config/kubelet.json"),
        format!("--kubeconfig={}", credential("kubelet.kubeconfig")),
        format!("--root-dir={INSIDE}/kubelet"),
        format!("--hostname-override={NODE}"),
        format!("--node-ip={}", network.node()),
    ]
}

fn kubelet_config(network: Network) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": credential("authority.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": credential("kubelet.crt"),
        "tlsPrivateKeyFile": credential("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{INSIDE}/containerd.sock"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::name(network),
        "failSwapOn": false,
        "failCgroupV1": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": [network.dns()],
        "resolvConf": format!("{INSIDE}/config/resolv.conf"),
        "podLogsDir": format!("{INSIDE}/pods"),
        "volumePluginDir": format!("{INSIDE}/volume-plugins"),
        "maxPods": 240,
        // How often a changed Secret is looked for; a minute by itself.
        "syncFrequency": "10s",
        "serializeImagePulls": false,
        // The machine's disk and memory are not the cluster's to judge.
        "evictionHard": {
            "memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
    })
}

fn proxy_config(network: Network) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": credential("kube-proxy.kubeconfig")},
        "hostnameOverride": NODE,
        "mode": "iptables",
        "clusterCIDR": network.pods(),
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
        // The machine's limits are out of reach from a network namespace.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
    })
}

/// Point to point, not a bridge: what goes from pod to pod is then routed by the node, which undoes the translation of service
/// addresses. On a bridge that takes a kernel module (`br_netfilter`) that not every machine has.
fn cni_config(network: Network) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pawl",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": network.pods()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "{INSIDE}/containerd"
state = "/run/containerd"
# What the node does not need, and what only fails on some machines.
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
address = "{INSIDE}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX}"
# Without the right to lower the score (CAP_SYS_RESOURCE) runc would end in the middle of a start.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "{INSIDE}/config/cni"
"#
    )
}
