//! The sidecar's metrics: what is counted, and under which labels.
//!
//! Labels are bounded: `policy` by the number of policies, the others by fixed lists. A policy's series are made when
//! its backend is opened and removed when it is closed, so that edits do not pile up series. Never a key, owner or
//! lease. `docs/metrics.md` explains each metric.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

mod policy;

pub use policy::{Operation, PolicyMetrics};

/// From 50 µs, a retained hold, to 60 s, a long wait.
const ACQUIRE_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// From a millisecond to a day: leases are short transactions and elected leaders.
const HOLD_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86400.0,
];
/// From 50 µs, memory, to 10 s, a server that hangs.
const REQUEST_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// All metrics of the sidecar, registered once.
#[derive(Clone, Debug)]
pub struct Metrics {
    acquire_seconds: HistogramVec,
    hold_seconds: HistogramVec,
    acquires: IntCounterVec,
    held: IntGaugeVec,
    waiters: IntGaugeVec,
    renewals: IntCounterVec,
    lost: IntCounterVec,
    fence_rejections: IntCounterVec,
    request_seconds: HistogramVec,
    errors: IntCounterVec,
    generation: IntGaugeVec,
    reloads: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When one of them is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let policy = &["policy", "backend"];
        Ok(Self {
            acquire_seconds: histograms(
                registry,
                "pawl_lock_acquire_seconds",
                "Time from the request to the grant of a lease",
                ACQUIRE_BUCKETS,
                policy,
            )?,
            hold_seconds: histograms(
                registry,
                "pawl_lock_hold_seconds",
                "Time from the grant of a lease to its release or loss",
                HOLD_BUCKETS,
                policy,
            )?,
            acquires: counters(
                registry,
                "pawl_lock_acquires_total",
                "Requests for a lease, by how they ended",
                &["policy", "backend", "result"],
            )?,
            held: gauges(
                registry,
                "pawl_locks_held",
                "Leases that applications hold through this sidecar, each key counted",
                policy,
            )?,
            waiters: gauges(
                registry,
                "pawl_lock_waiters",
                "Callers that wait for a lease in this sidecar",
                policy,
            )?,
            renewals: counters(
                registry,
                "pawl_lease_renewals_total",
                "Renewals of holds at the backend, by how they ended",
                &["policy", "backend", "result"],
            )?,
            lost: counters(
                registry,
                "pawl_leases_lost_total",
                "Leases that ended without release, by why",
                &["policy", "backend", "reason"],
            )?,
            fence_rejections: counters(
                registry,
                "pawl_fence_rejections_total",
                "Fencing tokens that were presented and were not the newest",
                policy,
            )?,
            request_seconds: histograms(
                registry,
                "pawl_backend_request_seconds",
                "Time of one call to the backend, failed ones included",
                REQUEST_BUCKETS,
                &["policy", "backend", "operation"],
            )?,
            errors: counters(
                registry,
                "pawl_backend_errors_total",
                "Calls to the backend that failed, by why",
                &["policy", "backend", "operation", "reason"],
            )?,
            generation: gauges(
                registry,
                "pawl_policy_generation",
                "metadata.generation of the policy that is served; 0 if its file has none",
                &["policy"],
            )?,
            reloads: reloads(registry)?,
        })
    }

    /// The metrics of one policy on one backend, with what the hot path counts looked up already.
    pub fn policy(&self, policy: &str, backend: &'static str) -> PolicyMetrics {
        PolicyMetrics::new(self, policy, backend)
    }

    /// Counts a policy file that was read.
    pub fn reloaded(&self, result: &str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Shows the generation that is served.
    pub fn set_generation(&self, policy: &str, generation: i64) {
        self.generation.with_label_values(&[policy]).set(generation);
    }

    /// Removes the generation of a policy that is no longer served.
    pub fn forget_generation(&self, policy: &str) {
        // It fails only if it was never shown.
        let _ = self.generation.remove_label_values(&[policy]);
    }
}

fn reloads(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let reloads = counters(
        registry,
        "pawl_policy_reloads_total",
        "Policy files that were read because they were new or had changed, by how that ended",
        &["result"],
    )?;
    // Shown as 0 from the start: the first error is the one that has to be told.
    for result in ["ok", "error"] {
        reloads.with_label_values(&[result]);
    }
    Ok(reloads)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let metric = HistogramVec::new(opts, labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
