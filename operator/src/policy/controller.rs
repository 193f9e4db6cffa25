//! What the leader runs: watches of ConfigMaps and pods, and two queues, one of policies and one of pods.
//!
//! kube's `applier` owns the queues: an object is in each at most once, is not worked on twice at a time, and comes back
//! when its turn says so. Errors bring a policy back with backoff and full jitter, each for itself.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        controller::{self, Action, applier},
        reflector::{self, ObjectRef, Store, store::Writer as StoreWriter},
        watcher::{self, Event, watcher},
    },
};
use pawl_kit::{
    admin::{Concern, Readiness},
    clock::Clock,
};
use rand::RngExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc};

use super::{
    ObservedPolicy, Policies,
    apply::{ApplyError, Writer},
    assess::{self, Delivery},
    bound::{self, Standing},
    dereference::{dereference, pods_of},
    events,
    fetch::Fetch,
    follow::follow,
    observed::{Change, api, next, told},
    render,
    reports::Reports,
    validate::validate,
};
use crate::{leader::Leadership, metrics::Metrics};

/// How many requests may wait to be queued.
const BACKLOG: usize = 1024;
/// How many policies, and how many pods, are worked on at a time.
const CONCURRENCY: u16 = 16;
/// What comes within so long is done at once. It also gives the kubelet time to hear of a ConfigMap before it is asked to
/// look.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often a policy is looked at without a reason; less by up to a tenth.
const RESYNC: Duration = Duration::from_mins(10);
/// The bounds of the pause after an error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));
/// How often pods without a sidecar are counted.
const COUNT: Duration = Duration::from_secs(10);

/// What the leader works on: one namespace, or all.
pub struct Controller {
    parts: Parts,
    config_maps_concern: Concern,
    pods_concern: Concern,
}

/// What a [`Controller`] is made of.
pub struct Parts {
    /// To read ConfigMaps and pods, and to write.
    pub client: Client,
    /// None: all.
    pub namespace: Option<String>,
    /// The policies of that namespace.
    pub policies: Policies,
    /// Whether to write.
    pub leadership: Leadership,
    /// Name of this replica, for events.
    pub instance: String,
    /// The clock that pauses are counted on.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

/// What all reconciles of one term share.
pub(super) struct Leading {
    pub(super) policies: Store<ObservedPolicy>,
    pub(super) config_maps: Store<ConfigMap>,
    pub(super) pods: Store<Pod>,
    pub(super) reports: Reports,
    pub(super) fetch: Fetch,
    pub(super) writer: Writer,
    pub(super) clock: Clock,
    metrics: Metrics,
    failures: Mutex<HashMap<ObjectRef<ObservedPolicy>, u32>>,
    to_policies: mpsc::Sender<ObjectRef<ObservedPolicy>>,
    to_pods: mpsc::Sender<ObjectRef<Pod>>,
}

impl Controller {
    /// Does nothing before [`Controller::lead`].
    pub fn new(parts: Parts, readiness: &Readiness) -> Self {
        Self {
            parts,
            config_maps_concern: readiness.concern("watch/configmaps"),
            pods_concern: readiness.concern("watch/pods"),
        }
    }

    /// Leads until it is dropped.
    pub async fn lead(&self) {
        let Parts {
            client,
            namespace,
            policies,
            leadership,
            instance,
            clock,
            metrics,
        } = &self.parts;
        let namespace = namespace.as_deref();
        let (config_maps, maps_writer) = reflector::store();
        let (pods, pods_writer) = reflector::store();
        let (to_policies, policy_queue) = mpsc::channel(BACKLOG);
        let (to_pods, pod_queue) = mpsc::channel(BACKLOG);
        let leading = Arc::new(Leading {
            policies: policies.store().clone(),
            config_maps,
            pods,
            reports: Reports::default(),
            fetch: Fetch::new(),
            writer: Writer::new(client.clone(), leadership.clone(), instance),
            clock: clock.clone(),
            metrics: metrics.clone(),
            failures: Mutex::default(),
            to_policies,
            to_pods,
        });
        let maps = watch(
            api(client.clone(), namespace),
            render::selector(),
            |map| map.metadata.managed_fields = None,
            maps_writer,
        );
        let bound = watch(
            api(client.clone(), namespace),
            bound::selector(),
            bound::trim,
            pods_writer,
        );
        let changes = policies.changes();
        tokio::select! {
            () = leading.watch_policies(changes) => {}
            () = leading.watch_config_maps(maps, &self.config_maps_concern) => {}
            () = leading.watch_pods(bound, &self.pods_concern) => {}
            () = leading.count_pods() => {}
            () = leading.work_on_policies(policy_queue) => {}
            () = leading.work_on_pods(pod_queue) => {}
        }
    }
}

/// The events of a watch, kept in a store before they are seen.
fn watch<K>(
    api: Api<K>,
    selector: String,
    trim: impl FnMut(&mut K),
    writer: StoreWriter<K>,
) -> impl stream::Stream<Item = watcher::Result<Event<K>>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, watcher::Config::default().labels(&selector))
        .default_backoff()
        .modify(trim)
        .reflect(writer)
}

impl Leading {
    async fn watch_policies(&self, mut changes: broadcast::Receiver<Change>) {
        self.tell_all_policies().await;
        loop {
            match changes.recv().await {
                Ok(Change::One(policy)) => self.tell_policy(policy).await,
                Ok(Change::All) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.tell_all_policies().await;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    async fn watch_config_maps(
        &self,
        events: impl stream::Stream<Item = watcher::Result<Event<ConfigMap>>>,
        concern: &Concern,
    ) {
        let mut events = pin!(events);
        while let Some(event) = next(&mut events, concern).await {
            match event {
                Ok(Event::Apply(map) | Event::Delete(map)) => {
                    concern.clear();
                    self.config_map_changed(&map).await;
                }
                Ok(Event::InitDone) => {
                    concern.clear();
                    self.tell_all_policies().await;
                    self.tell_all_pods().await;
                }
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => told(concern, "ConfigMaps", &error),
            }
        }
    }

    async fn config_map_changed(&self, map: &ConfigMap) {
        let (Some(policy), Some(namespace)) = (render::policy_of(map), &map.metadata.namespace)
        else {
            return;
        };
        self.tell_policy(ObjectRef::new(policy).within(namespace))
            .await;
        for pod in pods_of(&self.pods, namespace, policy) {
            self.tell_pod(ObjectRef::from_obj(&*pod)).await;
        }
    }

    async fn watch_pods(
        &self,
        events: impl stream::Stream<Item = watcher::Result<Event<Pod>>>,
        concern: &Concern,
    ) {
        let mut events = pin!(events);
        while let Some(event) = next(&mut events, concern).await {
            match event {
                Ok(Event::Apply(pod)) => {
                    concern.clear();
                    self.tell_policies_of(&pod).await;
                    self.tell_pod(ObjectRef::from_obj(&pod)).await;
                }
                Ok(Event::Delete(pod)) => {
                    concern.clear();
                    let name = pod.metadata.name.clone().unwrap_or_default();
                    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
                    self.reports.forget(&(namespace, name));
                    self.tell_policies_of(&pod).await;
                }
                Ok(Event::InitDone) => {
                    concern.clear();
                    self.reports.retain(|(namespace, name)| {
                        let pod = ObjectRef::new(name).within(namespace);
                        self.pods.get(&pod).is_some()
                    });
                    self.tell_all_policies().await;
                    self.tell_all_pods().await;
                }
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => told(concern, "pods", &error),
            }
        }
    }

    /// Keeps the gauge; 0 when the term is over.
    async fn count_pods(&self) {
        struct Zeroed<'a>(&'a Metrics);
        impl Drop for Zeroed<'_> {
            fn drop(&mut self) {
                self.0.pods_without_sidecar.set(0);
            }
        }
        let gauge = Zeroed(&self.metrics);
        loop {
            let pods = self.pods.state();
            let without = pods.iter().filter(|pod| {
                bound::standing(pod) == Standing::NoSidecar && !bound::policies(pod).is_empty()
            });
            let without = i64::try_from(without.count()).unwrap_or(i64::MAX);
            gauge.0.pods_without_sidecar.set(without);
            tokio::time::sleep(COUNT).await;
        }
    }

    async fn work_on_policies(self: &Arc<Self>, queue: mpsc::Receiver<ObjectRef<ObservedPolicy>>) {
        let done = applier(
            |policy, leading: Arc<Self>| Box::pin(timed(policy, leading)),
            |policy, error, leading| leading.after_error(&policy, error),
            Arc::clone(self),
            self.policies.clone(),
            requests(queue),
            config(),
        );
        done.for_each(|outcome| async move {
            if let Err(controller::Error::RunnerError(error)) = outcome {
                tracing::error!(%error, "the queue of policies stands still");
            }
        })
        .await;
    }

    async fn work_on_pods(self: &Arc<Self>, queue: mpsc::Receiver<ObjectRef<Pod>>) {
        let done = applier(
            |pod, leading: Arc<Self>| Box::pin(follow(pod, leading)),
            |_, error: &Infallible, _| match *error {},
            Arc::clone(self),
            self.pods.clone(),
            requests(queue),
            config(),
        );
        done.for_each(|outcome| async move {
            if let Err(controller::Error::RunnerError(error)) = outcome {
                tracing::error!(%error, "the queue of pods stands still");
            }
        })
        .await;
    }

    /// When to try again: the n-th time within a random part of 2^n times the shortest pause. What is stale comes by the
    /// watch anyway, and is only asked for again in case that it does not.
    fn after_error(&self, policy: &ObservedPolicy, error: &ApplyError) -> Action {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(ObjectRef::from_obj(policy)).or_default();
        *count = count.saturating_add(1);
        let (shortest, longest) = BACKOFF;
        let most = shortest.saturating_mul(1 << (*count).min(10)).min(longest);
        let pause = most
            .mul_f64(rand::rng().random_range(0.0..=1.0))
            .max(shortest / 5);
        if !error.is_stale() {
            tracing::warn!(
                namespace = policy.namespace(), policy = policy.name(), %error,
                again_ms = pause.as_millis(), "a policy is not where it belongs"
            );
        }
        Action::requeue(pause)
    }

    fn after_success(&self, policy: &ObservedPolicy) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&ObjectRef::from_obj(policy));
    }

    async fn tell_policy(&self, policy: ObjectRef<ObservedPolicy>) {
        // The queue is dropped together with all that fills it.
        let _ = self.to_policies.send(policy).await;
    }

    async fn tell_pod(&self, pod: ObjectRef<Pod>) {
        let _ = self.to_pods.send(pod).await;
    }

    /// Something about a pod changed that its policies' status shows.
    pub(super) async fn tell_policies_of(&self, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for policy in bound::policies(pod) {
            let policy = ObjectRef::new(policy).within(namespace);
            // A pod may name what is not there.
            if self.policies.get(&policy).is_some() {
                self.tell_policy(policy).await;
            }
        }
    }

    async fn tell_all_policies(&self) {
        for policy in self.policies.state() {
            self.tell_policy(ObjectRef::from_obj(&*policy)).await;
        }
    }

    async fn tell_all_pods(&self) {
        for pod in self.pods.state() {
            self.tell_pod(ObjectRef::from_obj(&*pod)).await;
        }
    }
}

async fn timed(policy: Arc<ObservedPolicy>, leading: Arc<Leading>) -> Result<Action, ApplyError> {
    let start = leading.clock.now();
    let done = reconcile(&policy, &leading).await;
    let result = match &done {
        Ok(()) => "ok",
        Err(error) => error.category(),
    };
    let took = leading.clock.now().saturating_since(start);
    leading.metrics.reconciled(result, took);
    done?;
    leading.after_success(&policy);
    Ok(Action::requeue(
        RESYNC.mul_f64(rand::rng().random_range(0.9..=1.0)),
    ))
}

/// Brings one policy to where it belongs.
async fn reconcile(policy: &ObservedPolicy, leading: &Leading) -> Result<(), ApplyError> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let gathered = dereference(
        policy,
        &leading.config_maps,
        &leading.pods,
        &leading.reports,
    );
    let validated = validate(policy);
    let delivery = if validated.fault.is_some() {
        Delivery::Withheld
    } else {
        let wanted = render::config_map(policy);
        let there = gathered.config_map.as_deref();
        if there.is_some_and(|there| render::is_current(there, &wanted)) {
            Delivery::Rendered
        } else {
            leading.writer.config_map(&wanted, there.is_some()).await?
        }
    };
    let before = policy.status();
    let now = leading.clock.wall();
    let after = assess::assess(policy, &validated, &delivery, &gathered.pods, now);
    if assess::is_same(&before, &after) {
        return Ok(());
    }
    leading.writer.status(policy, &after).await?;
    let events = events::of(&before, &after);
    leading.writer.events(policy, events).await;
    Ok(())
}

/// A queue as kube wants it.
fn requests<K>(
    mut queue: mpsc::Receiver<ObjectRef<K>>,
) -> impl stream::Stream<Item = Result<ObjectRef<K>, Infallible>>
where
    K: Resource<DynamicType = ()>,
{
    stream::poll_fn(move |context| queue.poll_recv(context).map(|request| request.map(Ok)))
}

fn config() -> controller::Config {
    controller::Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE)
}

#[cfg(test)]
mod tests;
