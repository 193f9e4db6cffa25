//! A one-node Kubernetes cluster on this machine, without a container engine.
//!
//! Its node is what a node of kind is: processes in PID, mount, network, IPC and UTS namespaces of their own, made by `unshare`.
//! The first process in them ([`node`]) starts etcd, containerd and the components of Kubernetes, each in a process group of its
//! own, and starts again what ended. Everything that runs, each pod included, is below that process: when it is killed the kernel
//! ends them all and takes away their mounts, interfaces and iptables rules. What is left then, a folder, a few cgroups, is
//! removed by [`control::down`], and by the next [`control::up`] if nobody did.
//!
//! The machine sees one interface, `pawl<slot>`, and routes through it to pods and services: tests talk to the API server, to pod
//! addresses and to service addresses directly. The cluster has no way out.
//!
//! Nothing survives a restart: etcd writes to memory, and each start is a fresh cluster.

pub mod addons;
pub mod cgroups;
pub mod components;
pub mod control;
pub mod credentials;
pub mod error;
pub mod images;
pub mod layout;
pub mod network;
pub mod node;
pub mod processes;
mod run;

pub use error::{Error, Result};
pub use layout::Layout;
pub use network::Network;
