//! Keeps this replica's authorities in the webhook's configuration.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration},
        core::v1::Pod,
    },
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watch_object},
    },
};
use pawl_crds::names::FIELD_MANAGER;
use pawl_kit::{admin::Concern, clock::Clock};
use rand::RngExt as _;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::sync::watch;

use super::{
    Own,
    bundle::{self, Known},
};
use crate::leader::{CallError, call};

/// The bounds of the pause after an error, with full jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The authorities of this replica that should stand in the configuration, and those that were seen to.
pub(super) struct Publisher {
    own: Own,
    clock: Clock,
    wanted: watch::Receiver<Vec<CertificateDer<'static>>>,
    seen: watch::Sender<Vec<CertificateDer<'static>>>,
}

/// The other end of a [`Publisher`].
pub(super) struct Publication {
    wanted: watch::Sender<Vec<CertificateDer<'static>>>,
    seen: watch::Receiver<Vec<CertificateDer<'static>>>,
}

impl Publication {
    /// Asks for these authorities to stand there, and no others of this replica; waits until they do. Cancel safe.
    pub(super) async fn publish(&mut self, authorities: Vec<CertificateDer<'static>>) {
        self.wanted.send_replace(authorities.clone());
        let stands = self.seen.wait_for(|seen| *seen == authorities);
        if stands.await.map(drop).is_err() {
            // The publisher is gone, so nothing will ever stand there.
            std::future::pending::<()>().await;
        }
    }
}

impl Publisher {
    pub(super) fn new(own: Own, clock: Clock) -> (Self, Publication) {
        let (wanted, wants) = watch::channel(Vec::new());
        let (sees, seen) = watch::channel(Vec::new());
        let publisher = Self {
            own,
            clock,
            wanted: wants,
            seen: sees,
        };
        (publisher, Publication { wanted, seen })
    }

    /// Publishes what is wanted, and mends it when others change the configuration. For ever; cancel safe.
    pub(super) async fn run(mut self, concern: &Concern) {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.own.client.clone());
        let changes = watch_object(api.clone(), &self.own.configuration).default_backoff();
        let mut changes = pin!(changes);
        let mut failures = 0;
        let mut there = loop {
            match changes.next().await {
                Some(Ok(object)) => break object,
                Some(Err(error)) => watch_failed(concern, &error),
                None => return,
            }
        };
        loop {
            let pause = match self.mend(&api, there.as_ref()).await {
                Ok(()) => {
                    failures = 0;
                    concern.clear();
                    self.own.timing.look
                }
                // Something newer is there, and comes by the watch.
                Err(error) if error.is_conflict() => BACKOFF.1,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, configuration = self.own.configuration, "the authority is not published");
                    concern.raise(format!("the authority is not published: {error}"));
                    backoff(failures)
                }
            };
            tokio::select! {
                Some(change) = changes.next() => match change {
                    Ok(object) => there = object,
                    Err(error) => watch_failed(concern, &error),
                },
                changed = self.wanted.changed() => if changed.is_err() {
                    return;
                },
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// Writes what differs, and tells what stands there.
    async fn mend(
        &mut self,
        api: &Api<MutatingWebhookConfiguration>,
        there: Option<&MutatingWebhookConfiguration>,
    ) -> Result<(), PublishError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let Some(there) = there else {
            return Err(PublishError::Missing);
        };
        let webhooks = there.webhooks.as_deref().unwrap_or_default();
        if webhooks.is_empty() {
            return Err(PublishError::Missing);
        }
        let known_others = webhooks
            .iter()
            .any(|webhook| bundle::has_others(ca_bundle(webhook), &self.own.pod));
        let pods = if known_others {
            let pods = self.pods().await;
            // Not known is not gone: then all of them stay.
            pods.inspect_err(|error| tracing::warn!(%error, "the operator's pods cannot be listed"))
                .ok()
        } else {
            None
        };
        let known = Known {
            own: &wanted,
            pod: &self.own.pod,
            pods: pods.as_ref(),
            now: self.clock.wall().unix_seconds(),
        };
        let changed: Vec<_> = webhooks
            .iter()
            .filter_map(|webhook| {
                let should = bundle::wanted(ca_bundle(webhook), &known);
                if bundle::has_garbage(ca_bundle(webhook)) {
                    tracing::warn!(
                        webhook = webhook.name,
                        "text that is no certificate is dropped from the bundle"
                    );
                }
                (should != ca_bundle(webhook)).then(|| {
                    json!({"name": webhook.name, "clientConfig": {"caBundle": ByteString(should)}})
                })
            })
            .collect();
        if !changed.is_empty() {
            self.write(api, there, &changed).await?;
            // What stands there is told when the watch shows it: the API servers' own watches have it at about that time.
            return Ok(());
        }
        let stands = webhooks
            .iter()
            .all(|webhook| bundle::has(ca_bundle(webhook), &wanted));
        if stands {
            self.seen.send_if_modified(|seen| {
                let differs = *seen != wanted;
                seen.clone_from(&wanted);
                differs
            });
        }
        Ok(())
    }

    /// Merged by the webhooks' names; a conflict if somebody else wrote in between.
    async fn write(
        &self,
        api: &Api<MutatingWebhookConfiguration>,
        there: &MutatingWebhookConfiguration,
        webhooks: &[serde_json::Value],
    ) -> Result<(), PublishError> {
        let patch = json!({
            "metadata": {"resourceVersion": there.metadata.resource_version},
            "webhooks": webhooks,
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(&patch);
        call(api.patch(&self.own.configuration, &params, &patch)).await?;
        tracing::info!(
            configuration = self.own.configuration,
            "the bundle of authorities was written"
        );
        Ok(())
    }

    /// The pods of the operator's namespace.
    async fn pods(&self) -> Result<BTreeSet<String>, CallError> {
        let pods: Api<Pod> = Api::namespaced(self.own.client.clone(), &self.own.namespace);
        let list = call(pods.list_metadata(&ListParams::default())).await?;
        Ok(list.items.iter().map(kube::ResourceExt::name_any).collect())
    }
}

/// Why an authority is not published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// There is nothing to publish it in.
    #[error(
        "there is no such MutatingWebhookConfiguration with a webhook in it: the chart makes it"
    )]
    Missing,
    /// The API server said no, or nothing.
    #[error("{0}")]
    Call(#[from] CallError),
}

impl PublishError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_conflict())
    }
}

fn watch_failed(concern: &Concern, error: &watcher::Error) {
    concern.raise(format!(
        "the webhook's configuration cannot be watched: {error}"
    ));
    tracing::warn!(%error, "the watch of the webhook's configuration is interrupted");
}

fn ca_bundle(webhook: &MutatingWebhook) -> &[u8] {
    let bundle = webhook.client_config.ca_bundle.as_ref();
    bundle.map_or(&[], |bundle| bundle.0.as_slice())
}

fn backoff(failures: u32) -> Duration {
    let (shortest, longest) = BACKOFF;
    let most = shortest.saturating_mul(1 << failures.min(10)).min(longest);
    most.mul_f64(rand::rng().random_range(0.0..=1.0))
        .max(shortest)
}

#[cfg(test)]
mod tests;
