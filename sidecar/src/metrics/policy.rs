//! The metrics of one policy on one backend.

use std::{cell::Cell, time::Duration};

use pawl_lock::{LossReason, backend::Category};

use super::{Histogram, IntCounter, IntGauge, Metrics};

/// A call to a backend; a value of the label `operation`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `acquire`.
    Acquire,
    /// `renew`.
    Renew,
    /// `release`.
    Release,
    /// `abandon`.
    Abandon,
    /// `inspect`.
    Inspect,
    /// `fence`.
    Fence,
    /// `check`.
    Check,
}

impl Operation {
    /// All operations, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Acquire,
        Self::Renew,
        Self::Release,
        Self::Abandon,
        Self::Inspect,
        Self::Fence,
        Self::Check,
    ];

    /// The operation as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Renew => "renew",
            Self::Release => "release",
            Self::Abandon => "abandon",
            Self::Inspect => "inspect",
            Self::Fence => "fence",
            Self::Check => "check",
        }
    }
}

/// How acquires end; the values of the label `result`.
const ACQUIRE_RESULTS: [&str; 8] = [
    "granted",
    "held",
    "limit",
    "invalid",
    "backend",
    "draining",
    "cancelled",
    "unknown_policy",
];
/// How renewals end; the values of the label `result`.
const RENEW_RESULTS: [&str; 3] = ["extended", "not_owner", "error"];

/// The metrics of one policy on one backend. Its series are removed by [`PolicyMetrics::close`].
#[derive(Debug)]
pub struct PolicyMetrics {
    metrics: Metrics,
    policy: String,
    backend: &'static str,
    granted: IntCounter,
    acquire_seconds: Histogram,
    hold_seconds: Histogram,
    request_seconds: [Histogram; Operation::ALL.len()],
    extended: IntCounter,
    fence_rejections: IntCounter,
    is_closed: Cell<bool>,
    /// Leases that live, each key counted.
    pub held: IntGauge,
    /// Callers that wait.
    pub waiters: IntGauge,
}

impl PolicyMetrics {
    pub(super) fn new(metrics: &Metrics, policy: &str, backend: &'static str) -> Self {
        let labels = [policy, backend];
        // Shown as 0 from the start: a rate over a series that appears with its first event misses that event.
        for reason in LossReason::ALL {
            metrics
                .lost
                .with_label_values(&[policy, backend, reason.as_str()]);
        }
        for result in ACQUIRE_RESULTS {
            metrics
                .acquires
                .with_label_values(&[policy, backend, result]);
        }
        for result in RENEW_RESULTS {
            metrics
                .renewals
                .with_label_values(&[policy, backend, result]);
        }
        Self {
            granted: metrics
                .acquires
                .with_label_values(&[policy, backend, "granted"]),
            acquire_seconds: metrics.acquire_seconds.with_label_values(&labels),
            hold_seconds: metrics.hold_seconds.with_label_values(&labels),
            request_seconds: Operation::ALL.map(|operation| {
                metrics
                    .request_seconds
                    .with_label_values(&[policy, backend, operation.as_str()])
            }),
            extended: metrics
                .renewals
                .with_label_values(&[policy, backend, "extended"]),
            fence_rejections: metrics.fence_rejections.with_label_values(&labels),
            held: metrics.held.with_label_values(&labels),
            waiters: metrics.waiters.with_label_values(&labels),
            metrics: metrics.clone(),
            is_closed: Cell::new(false),
            policy: policy.to_owned(),
            backend,
        }
    }

    /// Counts a grant that was waited for.
    pub fn granted(&self, waited: Duration) {
        self.granted.inc();
        self.acquire_seconds.observe(waited.as_secs_f64());
    }

    /// Counts an acquire that ended without a grant.
    pub fn refused(&self, result: &'static str) {
        if self.is_closed.get() {
            return;
        }
        self.metrics
            .acquires
            .with_label_values(&[&self.policy, self.backend, result])
            .inc();
    }

    /// Counts the end of a lease.
    pub fn ended(&self, held_for: Duration, lost: Option<LossReason>) {
        self.hold_seconds.observe(held_for.as_secs_f64());
        if let Some(reason) = lost
            && !self.is_closed.get()
        {
            self.metrics
                .lost
                .with_label_values(&[&self.policy, self.backend, reason.as_str()])
                .inc();
        }
    }

    /// Counts a call to the backend.
    pub fn called(&self, operation: Operation, took: Duration, error: Option<Category>) {
        self.request_seconds[operation as usize].observe(took.as_secs_f64());
        if let Some(category) = error
            && !self.is_closed.get()
        {
            let labels = [
                &self.policy,
                self.backend,
                operation.as_str(),
                category.as_str(),
            ];
            self.metrics.errors.with_label_values(&labels).inc();
        }
    }

    /// Counts a renewal of a hold.
    pub fn renewed(&self, result: &'static str) {
        if result == "extended" {
            self.extended.inc();
        } else if !self.is_closed.get() {
            self.metrics
                .renewals
                .with_label_values(&[&self.policy, self.backend, result])
                .inc();
        }
    }

    /// Counts a fencing token that was not the newest.
    pub fn fenced(&self) {
        self.fence_rejections.inc();
    }

    /// Removes the series. What is counted by stragglers afterwards is shown nowhere.
    pub fn close(&self) {
        self.is_closed.set(true);
        let metrics = &self.metrics;
        let policy = [self.policy.as_str(), self.backend];
        let with = |last: &'static str| [self.policy.as_str(), self.backend, last];
        // Removing fails only for a series that is not there, which is what is wanted.
        for vec in [&metrics.acquire_seconds, &metrics.hold_seconds] {
            let _ = vec.remove_label_values(&policy);
        }
        for vec in [&metrics.held, &metrics.waiters] {
            let _ = vec.remove_label_values(&policy);
        }
        let _ = metrics.fence_rejections.remove_label_values(&policy);
        for result in ACQUIRE_RESULTS {
            let _ = metrics.acquires.remove_label_values(&with(result));
        }
        for result in RENEW_RESULTS {
            let _ = metrics.renewals.remove_label_values(&with(result));
        }
        for reason in LossReason::ALL {
            let _ = metrics.lost.remove_label_values(&with(reason.as_str()));
        }
        for operation in Operation::ALL {
            let operation = operation.as_str();
            let _ = metrics
                .request_seconds
                .remove_label_values(&with(operation));
            for category in Category::ALL {
                let labels = [policy[0], policy[1], operation, category.as_str()];
                let _ = metrics.errors.remove_label_values(&labels);
            }
        }
    }
}
