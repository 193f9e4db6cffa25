//! All that the operator writes for policies. Each write asks first whether this replica leads.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
    runtime::events::{Event, Recorder, Reporter},
};
use pawl_crds::{
    LockPolicyStatus,
    names::{API_VERSION, FIELD_MANAGER, KIND, annotations},
};
use serde_json::json;

use super::{ObservedPolicy, assess::Delivery, render};
use crate::leader::{CallError, Leadership, NotLeading, call};

/// Writes, as long as this replica leads.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Leadership,
    recorder: Recorder,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another replica does it.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// The API server said no, or nothing.
    #[error("the {what} was not written: {source}")]
    Call {
        /// What was to be written.
        what: &'static str,
        /// Why it was not.
        source: CallError,
    },
}

impl ApplyError {
    /// A word for the log and the metric.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeading(_) => "not_leading",
            Self::Call { source, .. } => source.category(),
        }
    }

    /// Something newer is there, and comes by the watch.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::NotLeading(_) => false,
            Self::Call { source, .. } => source.is_conflict() || source.is_missing(),
        }
    }
}

impl Writer {
    /// Writes in the name of the replica `instance`.
    pub fn new(client: Client, leadership: Leadership, instance: &str) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            leadership,
        }
    }

    /// Brings a ConfigMap to where it should be. `is_known`: one of ours is there already.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn config_map(
        &self,
        wanted: &ConfigMap,
        is_known: bool,
    ) -> Result<Delivery, ApplyError> {
        let (Some(namespace), Some(name)) = (&wanted.metadata.namespace, &wanted.metadata.name)
        else {
            return Ok(Delivery::Withheld);
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        if !is_known {
            let there = self.write("ConfigMap", api.get_opt(name)).await?;
            if there.is_some_and(|there| render::policy_of(&there).is_none()) {
                let config_map = name.clone();
                return Ok(Delivery::Foreign { config_map });
            }
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(wanted);
        self.write("ConfigMap", api.patch(name, &params, &patch))
            .await?;
        Ok(Delivery::Rendered)
    }

    /// Writes a status over the one that was looked at: a conflict if that is not the newest.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn status(
        &self,
        policy: &ObservedPolicy,
        status: &LockPolicyStatus,
    ) -> Result<(), ApplyError> {
        let api: Api<ObservedPolicy> = Api::namespaced(self.client.clone(), policy.namespace());
        let patch = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"resourceVersion": policy.metadata.resource_version},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&patch);
        self.write("status", api.patch_status(policy.name(), &params, &patch))
            .await?;
        Ok(())
    }

    /// Touches a pod, so that the kubelet looks at its mounts.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn poke(&self, pod: &Pod, sum: &str) -> Result<(), ApplyError> {
        let metadata = &pod.metadata;
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            return Ok(());
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        // The uid makes it a conflict when another pod has the name now.
        let patch = json!({"metadata": {
            "uid": metadata.uid,
            "annotations": {annotations::POLICY_SUM: sum},
        }});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.write(
            "annotation of the pod",
            api.patch(name, &params, &Patch::Merge(&patch)),
        )
        .await?;
        Ok(())
    }

    /// Tells events. One that cannot be told is only logged.
    pub async fn events(&self, policy: &ObservedPolicy, events: Vec<Event>) {
        let about = policy.object_ref(&());
        for event in events {
            let told = self.write("event", self.recorder.publish(&event, &about));
            if let Err(error) = told.await {
                tracing::warn!(%error, reason = event.reason, policy = policy.name(), "an event was not told");
            }
        }
    }

    async fn write<T>(
        &self,
        what: &'static str,
        write: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApplyError> {
        self.leadership.check()?;
        call(write)
            .await
            .map_err(|source| ApplyError::Call { what, source })
    }
}
