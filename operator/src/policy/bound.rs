//! Pods as far as policies are concerned: which policies they name, and where their sidecar answers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use pawl_crds::names::{
    DEFAULT_ADMIN_PORT, MAX_POLICIES_PER_POD, SIDECAR_CONTAINER, annotations, labels,
};

/// How far a pod is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has no sidecar, and never will: it was made while nothing injected one.
    NoSidecar,
    /// It has no address yet.
    Starting,
    /// Its sidecar's admin server is here.
    At(SocketAddr),
    /// It runs no more, or is told to end: it counts no more.
    Ended,
}

/// What the label selector of the watch is.
pub fn selector() -> String {
    format!("{}=true", labels::INJECT)
}

/// The policies that a pod names, at most [`MAX_POLICIES_PER_POD`]. The webhook refuses senseless lists; a pod that was
/// made without it may have one.
pub fn policies(pod: &Pod) -> BTreeSet<&str> {
    let names = annotation(pod, annotations::POLICIES).unwrap_or_default();
    names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .take(MAX_POLICIES_PER_POD)
        .collect()
}

/// How far it is.
pub fn standing(pod: &Pod) -> Standing {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Standing::Ended;
    }
    if !has_sidecar(pod) {
        return Standing::NoSidecar;
    }
    let address = status.and_then(|status| status.pod_ip.as_deref());
    match address.and_then(|address| address.parse::<IpAddr>().ok()) {
        Some(ip) => Standing::At(SocketAddr::new(ip, admin_port(pod))),
        None => Standing::Starting,
    }
}

/// Drops what nobody here looks at: a cluster has many pods.
pub fn trim(pod: &mut Pod) {
    let ours = [
        annotations::POLICIES,
        annotations::ADMIN_PORT,
        annotations::POLICY_SUM,
    ];
    pod.metadata.managed_fields = None;
    pod.metadata.labels = None;
    pod.metadata.owner_references = None;
    if let Some(kept) = &mut pod.metadata.annotations {
        kept.retain(|name, _| ours.contains(&name.as_str()));
    }
    pod.spec = pod.spec.take().map(|spec| {
        let mut sidecars = spec.init_containers.unwrap_or_default();
        sidecars.retain(|container| container.name == SIDECAR_CONTAINER);
        for sidecar in &mut sidecars {
            *sidecar = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut sidecar.name),
                ..Default::default()
            };
        }
        PodSpec {
            init_containers: Some(sidecars),
            ..PodSpec::default()
        }
    });
    pod.status = pod.status.take().map(|status| PodStatus {
        phase: status.phase,
        pod_ip: status.pod_ip,
        ..PodStatus::default()
    });
}

fn has_sidecar(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let containers = spec.and_then(|spec| spec.init_containers.as_ref());
    containers
        .into_iter()
        .flatten()
        .any(|container| container.name == SIDECAR_CONTAINER)
}

fn admin_port(pod: &Pod) -> u16 {
    annotation(pod, annotations::ADMIN_PORT)
        .and_then(|port| port.trim().parse().ok())
        .unwrap_or(DEFAULT_ADMIN_PORT)
}

/// One of a pod's annotations.
pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests;
