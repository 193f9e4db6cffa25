//! What the webhook counts.

use prometheus::{IntCounterVec, Opts, Registry};

/// Reviews by result.
pub const METRIC: &str = "pawl_operator_admissions_total";

/// How a review ended. The values of the label `result`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The sidecar, or what a container lacked, was put in.
    Patched,
    /// The pod was as it should be.
    Unchanged,
    /// Nothing to decide: no label, or no creation.
    Skipped,
    /// Refused, with the reason.
    Denied,
    /// It was no review.
    Invalid,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Patched,
        Self::Unchanged,
        Self::Skipped,
        Self::Denied,
        Self::Invalid,
    ];

    /// As the label says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Patched => "patched",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
        }
    }
}

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Metrics(IntCounterVec);

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Pods that were reviewed by the webhook.";
        let counter = IntCounterVec::new(Opts::new(METRIC, help), &["result"])?;
        for outcome in Outcome::ALL {
            counter.with_label_values(&[outcome.as_str()]);
        }
        pawl_kit::metrics::register(registry, counter).map(Self)
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.0.with_label_values(&[outcome.as_str()]).inc();
    }
}
