//! Policies as the API server has them, and the watch that every replica keeps of them.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use pawl_crds::{LockPolicy, LockPolicyStatus, names};
use pawl_kit::admin::Concern;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

/// How many changes a slow listener may be behind; then it looks at everything.
const BACKLOG: usize = 1024;

/// A policy as it stands at the API server, not yet believed: the definition there may be older or newer than ours.
#[derive(Resource, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[resource(inherit = LockPolicy)]
pub struct ObservedPolicy {
    /// The usual.
    pub metadata: ObjectMeta,
    /// Whatever is there.
    #[serde(default)]
    pub spec: Value,
    /// Whatever is there.
    #[serde(default)]
    pub status: Value,
}

impl ObservedPolicy {
    /// Its namespace; never empty for what came from an API server.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its name; never empty for what came from an API server.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Counts the changes of its spec.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// The status, as far as it is understood: what is not is written anew.
    pub fn status(&self) -> LockPolicyStatus {
        serde_json::from_value(self.status.clone()).unwrap_or_default()
    }

    /// What the sidecar reads: the document without what changes by itself (status, resourceVersion).
    pub fn document(&self) -> Value {
        json!({
            "apiVersion": names::API_VERSION,
            "kind": names::KIND,
            "metadata": {
                "name": self.name(),
                "namespace": self.namespace(),
                "generation": self.generation(),
            },
            "spec": self.spec,
        })
    }
}

/// The policies of one namespace or of all, kept up to date by [`Policies::watch`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies {
    api: Api<ObservedPolicy>,
    store: Store<ObservedPolicy>,
    changes: broadcast::Sender<Change>,
    listed: watch::Sender<bool>,
}

/// Errors come again within so long: the longest pause of the backoff is 30 s.
const QUIET: Duration = Duration::from_mins(1);

/// What changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// One policy; it may be gone.
    One(ObjectRef<ObservedPolicy>),
    /// They were listed anew.
    All,
}

impl Policies {
    /// Those of `namespace`, or of all; with the writer that [`Policies::watch`] needs.
    pub fn new(client: Client, namespace: Option<&str>) -> (Self, Writer<ObservedPolicy>) {
        let writer = Writer::default();
        let policies = Self {
            api: api(client, namespace),
            store: writer.as_reader(),
            changes: broadcast::Sender::new(BACKLOG),
            listed: watch::Sender::new(false),
        };
        (policies, writer)
    }

    /// The client that they are read with.
    pub(super) fn client(&self) -> Client {
        self.api.clone().into_client()
    }

    /// What is known.
    pub fn store(&self) -> &Store<ObservedPolicy> {
        &self.store
    }

    /// Waits until they were listed for the first time. Cancel safe. Not the store's own `wait_until_ready`, which wakes
    /// the last one alone that asked, and the controller's queue asks too.
    pub async fn known(&self) {
        let mut listed = self.listed.subscribe();
        // An error says that all of us are gone, of whom this is one.
        let _ = listed.wait_for(|listed| *listed).await;
    }

    /// What changes from now on. A listener that lags has to look at the whole store.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Watches for ever. Errors are told as a concern and in the log, and tried again with backoff; a watch that is too old
    /// (410) is listed anew.
    pub async fn watch(self, writer: Writer<ObservedPolicy>, concern: Concern) {
        let events = watcher(self.api, watcher::Config::default())
            .default_backoff()
            .modify(|policy| policy.metadata.managed_fields = None)
            .reflect(writer);
        let mut events = std::pin::pin!(events);
        while let Some(event) = next(&mut events, &concern).await {
            let change = match event {
                Ok(Event::Apply(policy) | Event::Delete(policy)) => {
                    Change::One(ObjectRef::from_obj(&policy))
                }
                Ok(Event::InitDone) => {
                    self.listed.send_replace(true);
                    Change::All
                }
                Ok(Event::Init | Event::InitApply(_)) => continue,
                Err(error) => {
                    told(&concern, "LockPolicies", &error);
                    continue;
                }
            };
            concern.clear();
            // Without a listener, nobody leads.
            let _ = self.changes.send(change);
        }
    }
}

/// The usual, for one namespace or all.
pub(super) fn api<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// The next event of a watch. A watch that was taken up again shows by its silence, since it may have nothing to tell: then
/// its trouble is over.
pub(super) async fn next<S: Stream + Unpin>(events: &mut S, concern: &Concern) -> Option<S::Item> {
    if let Ok(event) = tokio::time::timeout(QUIET, events.next()).await {
        return event;
    }
    concern.clear();
    events.next().await
}

/// Tells that a watch is in trouble.
pub(super) fn told(concern: &Concern, what: &str, error: &watcher::Error) {
    concern.raise(error.to_string());
    tracing::warn!(%error, "the watch of {what} is interrupted");
}

/// Reads a raw policy as one that can be used.
///
/// # Errors
/// Everything that is wrong with it, in one text.
pub fn understood(policy: &ObservedPolicy) -> Result<Arc<LockPolicy>, String> {
    match pawl_crds::validate(&policy.document()) {
        Ok(policy) => Ok(Arc::new(policy)),
        Err(violations) => {
            let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
            Err(texts.join("; "))
        }
    }
}
