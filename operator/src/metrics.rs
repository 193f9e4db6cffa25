//! The operator's metrics: [`docs/metrics.md`] is their reference.
//!
//! [`docs/metrics.md`]: https://github.com/pawl-dev/pawl/blob/main/docs/metrics.md

use std::time::Duration;

use pawl_kit::metrics::{LATENCY_BUCKETS, register};
use prometheus::{HistogramOpts, HistogramVec, IntGauge, Opts, Registry};

/// What the leader counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconcile: HistogramVec,
    /// 1 while this replica leads.
    pub leader: IntGauge,
    /// Bound pods without a sidecar, as the leader sees them.
    pub pods_without_sidecar: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one of that name is there already: a bug.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reconcile = HistogramOpts::new(
            "pawl_operator_reconcile_seconds",
            "Time to bring one policy to where it belongs.",
        )
        .buckets(LATENCY_BUCKETS.to_vec());
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let leader = gauge(
            "pawl_operator_leader",
            "1 if this operator leads: it alone writes ConfigMaps and status.",
        )?;
        let without = gauge(
            "pawl_operator_pods_without_sidecar",
            "Pods that name a policy and have no sidecar, as the leader sees them; 0 at the others.",
        )?;
        Ok(Self {
            reconcile: register(registry, HistogramVec::new(reconcile, &["result"])?)?,
            leader: register(registry, leader)?,
            pods_without_sidecar: register(registry, without)?,
        })
    }

    /// Counts one reconcile. `result` is a word out of the program's own text.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconcile
            .with_label_values(&[result])
            .observe(took.as_secs_f64());
    }
}
