//! The webhook's certificate: made by the operator itself, or read from a directory.
//!
//! # By itself
//! Each replica makes an authority and a certificate in its own memory and adds its authority to the `caBundle` of the
//! MutatingWebhookConfiguration, which trusts the union. No private key ever leaves a process, so nobody who may read
//! Secrets can pose as the webhook, and the operator needs no access to Secrets.
//!
//! | step of a rotation | API servers trust | this replica serves |
//! |---|---|---|
//! | new authority made and published | old and new | old |
//! | seen to stand there, and [`Timing::settle`] over | old and new | old |
//! | switched | old and new | new |
//! | another settle over | new | new |
//!
//! # Invariants
//! - Nothing is served that API servers may not trust yet; the replica is unready until its first authority stands there.
//! - What others put into the bundle stays. Authorities of replicas that are gone, or over, are taken out.
//! - An error of the API server or a file changes nothing: the last good certificate is served on.
//! - Nothing is written where nothing differs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use pawl_kit::{
    admin::{Concern, Latch, Readiness},
    clock::{Clock, Wall},
    metrics::register,
};
use prometheus::{IntGauge, Registry};
use rustls::server::ResolvesServerCert;

mod authority;
mod bundle;
#[cfg(test)]
mod fixtures;
mod folder;
mod own;
mod publish;
mod serving;

use serving::Serving;

/// Common name of the authorities, before the name of the pod.
pub const AUTHORITY: &str = "pawl-operator/";

/// A certificate that ends within so long is told as a concern; the chart's alert fires then, too.
const SOON: Duration = Duration::from_hours(1);

/// Where the certificate comes from.
#[derive(Clone)]
pub enum Source {
    /// Made by the operator itself.
    Own(Own),
    /// `tls.crt` and `tls.key` in a directory, re-read when they change. The `caBundle` is somebody else's.
    Folder(PathBuf),
}

/// What is needed to make one's own.
#[derive(Clone)]
pub struct Own {
    /// To publish the authority.
    pub client: Client,
    /// Name of the MutatingWebhookConfiguration.
    pub configuration: String,
    /// Name of the Service that API servers call.
    pub service: String,
    /// The operator's namespace.
    pub namespace: String,
    /// This replica's pod.
    pub pod: String,
    /// How long things take.
    pub timing: Timing,
}

/// How long things take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How long authorities and certificates are valid; renewed at two thirds.
    pub lifetime: Duration,
    /// How long API servers have to hear of a first authority after it stands in the configuration: they watch it.
    pub start: Duration,
    /// The same at a rotation, where there is time.
    pub settle: Duration,
    /// How often the bundle is looked at without a reason.
    pub look: Duration,
}

impl Default for Timing {
    /// A day; 5 s; a minute; 10 minutes.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_hours(24),
            start: Duration::from_secs(5),
            settle: Duration::from_mins(1),
            look: Duration::from_mins(10),
        }
    }
}

/// Keeps the certificate.
pub struct Certs {
    source: Source,
    clock: Clock,
    serving: Arc<Serving>,
    readiness: Readiness,
    latch: Latch,
}

impl Certs {
    /// Has no certificate before [`Certs::run`], and keeps the operator unready until it has one that is trusted.
    ///
    /// # Errors
    /// When the metric is registered already: a bug.
    pub fn new(
        source: Source,
        clock: Clock,
        readiness: &Readiness,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let expiry = IntGauge::new(
            "pawl_operator_certificate_expiry_timestamp_seconds",
            "When the certificate that the webhook is served with ends, in seconds since 1970; 0 before there is one.",
        )?;
        Ok(Self {
            source,
            clock,
            serving: Arc::new(Serving::new(register(registry, expiry)?)),
            latch: readiness.latch("certificate"),
            readiness: readiness.clone(),
        })
    }

    /// What the TLS server asks at each handshake.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.serving.clone()
    }

    /// Keeps the certificate for ever. Cancel safe: what is served stays as it is.
    pub async fn run(self) {
        let concern = self.readiness.concern("certificate");
        match self.source {
            Source::Own(own) => {
                let end = self.readiness.concern("certificate/end");
                own::run(own, self.clock, &self.serving, self.latch, [&concern, &end]).await;
            }
            Source::Folder(folder) => {
                folder::run(&folder, &self.clock, &self.serving, self.latch, &concern).await;
            }
        }
    }
}

/// Tells when the certificate that is served ends soon, or has ended.
fn tell_end(not_after: i64, now: Wall, concern: &Concern) {
    let left = not_after.saturating_sub(now.unix_seconds());
    if left > i64::try_from(SOON.as_secs()).unwrap_or(i64::MAX) {
        concern.clear();
    } else {
        concern.raise(format!("the webhook's certificate ends in {left} s"));
        tracing::error!(left_s = left, "the webhook's certificate ends soon");
    }
}

#[cfg(test)]
mod tests;
