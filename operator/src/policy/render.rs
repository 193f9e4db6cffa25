//! The ConfigMap that carries a policy to the sidecars.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource, api::ObjectMeta};
use pawl_crds::names::{FIELD_MANAGER, labels};
use sha2::{Digest as _, Sha256};

use super::ObservedPolicy;

/// Name of the ConfigMap of a policy. At most 75 characters, since a policy's name has at most 63.
pub fn name(policy: &str) -> String {
    format!("pawl-policy-{policy}")
}

/// What the label selector of the watch is.
pub fn selector() -> String {
    format!("{}={FIELD_MANAGER}", labels::MANAGED_BY)
}

/// The policy that a ConfigMap was made from, if it is one of ours.
pub fn policy_of(map: &ConfigMap) -> Option<&str> {
    let labels = map.metadata.labels.as_ref()?;
    let policy = labels.get(labels::POLICY)?;
    let ours = labels.get(labels::MANAGED_BY).map(String::as_str) == Some(FIELD_MANAGER);
    (ours && map.metadata.name.as_deref() == Some(name(policy).as_str())).then_some(policy)
}

/// The ConfigMap as it should be.
pub fn config_map(policy: &ObservedPolicy) -> ConfigMap {
    let document =
        serde_yaml::to_string(&policy.document()).expect("JSON with text keys is always YAML");
    let labels = [
        (labels::MANAGED_BY, FIELD_MANAGER),
        (labels::POLICY, policy.name()),
    ];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(policy.name())),
            namespace: Some(policy.namespace().to_owned()),
            labels: Some(owned(labels)),
            // Goes when the policy goes, without a finalizer that could hold up the deletion of a namespace.
            owner_references: policy.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            format!("{}.yaml", policy.name()),
            document,
        )])),
        ..ConfigMap::default()
    }
}

/// Whether what is there is what should be, as far as it is ours to say.
pub fn is_current(there: &ConfigMap, wanted: &ConfigMap) -> bool {
    let labels = |map: &ConfigMap| map.metadata.labels.clone().unwrap_or_default();
    let there_labels = labels(there);
    there.data == wanted.data
        && there.metadata.owner_references == wanted.metadata.owner_references
        && labels(wanted)
            .iter()
            .all(|(name, value)| there_labels.get(name) == Some(value))
}

/// The generation that a ConfigMap carries.
pub fn generation(map: &ConfigMap) -> Option<i64> {
    let document = map.data.as_ref()?.values().next()?;
    let document: serde_json::Value = serde_yaml::from_str(document).ok()?;
    document["metadata"]["generation"].as_i64()
}

/// A sum over what a pod's policies are rendered to: 16 hexadecimal digits. A policy without a ConfigMap counts too, so that
/// its coming and going shows.
pub fn sum<'a>(rendered: impl IntoIterator<Item = (&'a str, Option<&'a ConfigMap>)>) -> String {
    let mut sum = Sha256::new();
    let mut add = |text: &str| {
        sum.update(text.len().to_be_bytes());
        sum.update(text);
    };
    for (policy, map) in rendered {
        add(policy);
        let data = map.and_then(|map| map.data.as_ref());
        for (file, text) in data.into_iter().flatten() {
            add(file);
            add(text);
        }
    }
    let mut first = [0; 8];
    first.copy_from_slice(&sum.finalize()[..8]);
    format!("{:016x}", u64::from_be_bytes(first))
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    pairs.into_iter().map(owned).collect()
}

#[cfg(test)]
mod tests;
