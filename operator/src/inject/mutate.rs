//! Decides what is added to a pod.

use std::sync::Arc;

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use pawl_crds::{
    Auth, BackendKind, Chosen, LockPolicy,
    names::{
        annotations::{INJECTED, POLICIES},
        env,
    },
};
use serde_json::{Value, json};

use super::{
    Config, amounts,
    annotations::{self, Wishes},
    conflicts,
    container::{self, Given, Needs},
    pod::{Container, LISTS, Pod},
    refusal::{Refusal, shown},
    volumes,
};

/// What is done to a pod.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Mutation {
    /// Additions only; empty when the pod is as it should be.
    pub(super) patch: Patch,
    /// What the user should know though the pod is allowed, a sentence each.
    pub(super) warnings: Vec<String>,
}

/// Decides about a pod that asks for a sidecar.
///
/// # Errors
/// Every reason why it is refused, at least one.
pub(super) fn mutate(
    config: &Config,
    namespace: &str,
    pod: &Value,
) -> Result<Mutation, Vec<Refusal>> {
    let pod = Pod::try_new(pod).map_err(|refusal| vec![refusal])?;
    let mut refusals = Vec::new();
    let wishes = annotations::read(pod, &mut refusals);
    let sidecar = pod.sidecar();
    refusals.extend(conflicts::find(pod, &wishes, sidecar.is_some()));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut additions = Additions::default();
    if let Some(sidecar) = sidecar {
        // What it was made with counts, not what policies say by now: volumes cannot come later.
        additions.for_application(pod, &as_made(pod, sidecar, &wishes));
    } else {
        let policies = find(config, namespace, &wishes.policies)?;
        let secrets = volumes::secrets(&policies);
        let needs = Needs {
            secrets: secrets.is_some(),
            ..needs(&wishes, &policies)
        };
        additions.for_application(pod, &Given::new(wishes.port, needs));
        let resources = amounts::choose(wishes.resources.as_ref(), &policies);
        let sidecar = container::sidecar(config, &wishes, needs, resources);
        additions.first(&["spec", LISTS[0]], &pod.spec()[LISTS[0]], vec![sidecar]);
        let volumes = [
            Some(volumes::policies(&wishes.policies)),
            secrets,
            needs.token.then(|| volumes::in_memory(volumes::TOKEN)),
            needs.socket.then(|| volumes::in_memory(volumes::SOCKET)),
            needs.api_access.then(volumes::api_access),
        ];
        let volumes = volumes.into_iter().flatten().collect();
        additions.last(&["spec", "volumes"], &pod.spec()["volumes"], volumes);
        additions.mark(pod, &config.version);
    }
    Ok(Mutation {
        patch: Patch(additions.0),
        warnings: warnings(pod),
    })
}

/// All policies, or a refusal for each that is missing: what it needs could not be mounted later. Who makes pods for others, such as a
/// ReplicaSet, tries again soon.
fn find(
    config: &Config,
    namespace: &str,
    names: &[String],
) -> Result<Vec<Arc<LockPolicy>>, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let policies = names.iter().filter_map(|name| {
        let policy = config.policies.get(namespace, name);
        if policy.is_none() {
            refusals.push(Refusal::new(
                POLICIES,
                format!(
                    "there is no valid LockPolicy {} in namespace {namespace}",
                    shown(name)
                ),
                "create it first, for what it needs is mounted when the pod is made",
            ));
        }
        policy
    });
    let policies = policies.collect();
    if refusals.is_empty() {
        Ok(policies)
    } else {
        Err(refusals)
    }
}

fn needs(wishes: &Wishes, policies: &[Arc<LockPolicy>]) -> Needs {
    let backend = |policy: &Arc<LockPolicy>| policy.spec.backend.chosen().map(Chosen::kind);
    Needs {
        token: policies.iter().any(|p| p.spec.sidecar.auth == Auth::Token),
        socket: wishes.socket,
        secrets: false,
        api_access: policies
            .iter()
            .any(|policy| backend(policy) == Some(BackendKind::Kubernetes)),
    }
}

fn as_made(pod: Pod<'_>, sidecar: Container<'_>, wishes: &Wishes) -> Given {
    let has = |volume: volumes::Volume| pod.volumes().iter().any(|v| v["name"] == volume.0);
    let needs = Needs {
        token: sidecar.variable(env::TOKEN_FILE).is_some() && has(volumes::TOKEN),
        socket: sidecar.variable(env::SOCKET).is_some() && has(volumes::SOCKET),
        ..Needs::default()
    };
    let listen = sidecar.variable(env::LISTEN);
    let port = listen.and_then(|address| address.rsplit(':').next()?.parse().ok());
    Given::new(port.unwrap_or(wishes.port), needs)
}

fn warnings(pod: Pod<'_>) -> Vec<String> {
    ["shareProcessNamespace", "hostPID"]
        .into_iter()
        .filter(|field| pod.spec()[*field] == true)
        .map(|field| {
            format!("spec.{field}: other processes may read the sidecar's files, its secrets among them, through /proc")
        })
        .collect()
}

/// Operations of a patch, all of them `add`.
#[derive(Default)]
struct Additions(Vec<PatchOperation>);

impl Additions {
    fn add(&mut self, path: &[&str], value: Value) {
        let path = PointerBuf::from_tokens(path.iter().copied());
        self.0
            .push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Puts items before those that are there, in their order.
    fn first(&mut self, list: &[&str], there: &Value, items: Vec<Value>) {
        if there.is_array() {
            let at = [list, &["0"]].concat();
            for item in items.into_iter().rev() {
                self.add(&at, item);
            }
        } else if !items.is_empty() {
            self.add(list, Value::Array(items));
        }
    }

    /// Puts items after those that are there.
    fn last(&mut self, list: &[&str], there: &Value, items: Vec<Value>) {
        if there.is_array() {
            let at = [list, &["-"]].concat();
            for item in items {
                self.add(&at, item);
            }
        } else if !items.is_empty() {
            self.add(list, Value::Array(items));
        }
    }

    /// Variables and mounts that containers lack. Before the sidecar is put in, since that moves init containers on.
    fn for_application(&mut self, pod: Pod<'_>, given: &Given) {
        for container in pod.containers().filter(|c| !c.is_named_as_ours()) {
            let index = container.index.to_string();
            let at = |field| ["spec", container.list, &index, field];
            let has = |name: &str| container.env().iter().any(|v| v["name"] == name);
            let lacking = given.variables.iter().filter(|(name, _)| !has(name));
            // First, so that the user's own variables can refer to them: $(PAWL_URL).
            let variables = lacking.map(|(name, value)| json!({"name": name, "value": value}));
            self.first(&at("env"), &container.value["env"], variables.collect());
            let has = |path: &str| container.mounts().iter().any(|m| m["mountPath"] == path);
            let lacking = given.volumes.iter().filter(|volume| !has(volume.1));
            let mounts = lacking.map(|volume| volume.mount(true)).collect();
            let there = &container.value["volumeMounts"];
            self.last(&at("volumeMounts"), there, mounts);
        }
    }

    fn mark(&mut self, pod: Pod<'_>, version: &str) {
        if pod.annotations().is_some() {
            self.add(&["metadata", "annotations", INJECTED], version.into());
        } else if pod.has_metadata() {
            self.add(&["metadata", "annotations"], json!({INJECTED: version}));
        } else {
            self.add(&["metadata"], json!({"annotations": {INJECTED: version}}));
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
