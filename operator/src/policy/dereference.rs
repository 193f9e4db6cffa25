//! Gathers what belongs to a policy out of what is watched. No call, no decision.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::runtime::reflector::{ObjectRef, Store};

use super::{
    ObservedPolicy,
    bound::{self, Standing},
    render,
    report::PolicyReport,
    reports::Reports,
};

/// What is known of a policy.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// What it is rendered to now.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The pods that name it and have not ended, by name.
    pub pods: Vec<BoundPod>,
}

/// A pod that names the policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoundPod {
    /// Its name.
    pub name: String,
    /// Whether it has a sidecar; never [`Standing::Ended`].
    pub standing: Standing,
    /// What its sidecar says of the policy.
    pub report: Option<PolicyReport>,
}

/// Gathers it.
pub(super) fn dereference(
    policy: &ObservedPolicy,
    config_maps: &Store<ConfigMap>,
    pods: &Store<Pod>,
    reports: &Reports,
) -> Gathered {
    let named = ObjectRef::new(&render::name(policy.name())).within(policy.namespace());
    let mut bound: Vec<_> = pods_of(pods, policy.namespace(), policy.name())
        .filter_map(|pod| gather(&pod, policy, reports))
        .collect();
    bound.sort_by(|a, b| a.name.cmp(&b.name));
    Gathered {
        config_map: config_maps.get(&named),
        pods: bound,
    }
}

/// The pods that name a policy.
pub(super) fn pods_of<'a>(
    pods: &Store<Pod>,
    namespace: &'a str,
    policy: &'a str,
) -> impl Iterator<Item = Arc<Pod>> + use<'a> {
    pods.state().into_iter().filter(move |pod| {
        pod.metadata.namespace.as_deref() == Some(namespace)
            && bound::policies(pod).contains(policy)
    })
}

fn gather(pod: &Pod, policy: &ObservedPolicy, reports: &Reports) -> Option<BoundPod> {
    let standing = bound::standing(pod);
    if standing == Standing::Ended {
        return None;
    }
    let name = pod.metadata.name.clone()?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let said = reports.of(&(policy.namespace().to_owned(), name.clone()), uid);
    let report = said.and_then(|said| said.policies.get(policy.name()).cloned());
    Some(BoundPod {
        name,
        standing,
        report,
    })
}
