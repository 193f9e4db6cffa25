//! What Prometheus is told. Balances and lost updates are read from the store when it asks, so every
//! replica tells the same: take `max`, not `sum`, over replicas.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Encoder, Gauge, IntCounterVec, Opts, Registry, TextEncoder};

use super::mode::LockMode;
use crate::store::Totals;

/// The bank's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    deductions: IntCounterVec,
    balance: Gauge,
    expected: Gauge,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Panics
    /// Never: the names are constants, right and different.
    pub fn new() -> Self {
        let made = "the metric's name and labels are valid constants";
        let gauge = |name: &str, help: &str| Gauge::new(name, help).expect(made);
        let opts = Opts::new(
            "bank_deductions_total",
            "Deductions and payments by lock mode and result",
        );
        let deductions = IntCounterVec::new(opts, &["mode", "result"]).expect(made);
        let balance = gauge(
            "bank_balance",
            "Sum of all balances as the books have it, in units",
        );
        let expected = gauge(
            "bank_expected_balance",
            "What the sum of all balances should be, in units",
        );
        let registry = Registry::new();
        let collectors: [Box<dyn Collector>; 3] = [
            Box::new(deductions.clone()),
            Box::new(balance.clone()),
            Box::new(expected.clone()),
        ];
        for collector in collectors {
            registry
                .register(collector)
                .expect("each metric is registered once");
        }
        Self {
            registry,
            deductions,
            balance,
            expected,
        }
    }

    /// Counts a deduction. `result` is `applied` or the code of its problem, so there are few of them.
    pub fn deduction(&self, mode: LockMode, result: &'static str) {
        self.deductions
            .with_label_values(&[mode.name(), result])
            .inc();
    }

    /// What became of this replica's deductions so far.
    pub fn deductions(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for family in self.deductions.collect() {
            for metric in family.get_metric() {
                let result = metric.get_label().iter().find(|l| l.name() == "result");
                let count = metric.get_counter().get_value();
                if let Some(result) = result {
                    *counts.entry(result.value().to_owned()).or_insert(0) += whole(count);
                }
            }
        }
        counts
    }

    /// The text that Prometheus reads.
    pub fn text(&self, totals: &Totals) -> Vec<u8> {
        self.balance.set(totals.balance);
        self.expected.set(totals.expected);
        let mut families = self.registry.gather();
        families.push(lost_updates(totals.lost_updates));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A counter whose value lies in the store, not in this process.
fn lost_updates(value: f64) -> MetricFamily {
    let mut counter = prometheus::proto::Counter::default();
    counter.set_value(value);
    let mut metric = prometheus::proto::Metric::default();
    metric.set_counter(counter);
    let mut family = MetricFamily::default();
    family.set_name("bank_lost_updates_total".to_owned());
    family.set_help("Acknowledged deductions that no balance shows".to_owned());
    family.set_field_type(MetricType::COUNTER);
    family.set_metric(vec![metric]);
    family
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an integer counter's value, which the library hands out as a float"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_have_the_contracts_names() {
        let metrics = Metrics::new();
        metrics.deduction(LockMode::Row, "applied");
        metrics.deduction(LockMode::Row, "insufficient");
        let totals = Totals {
            balance: 900.0,
            expected: 800.0,
            lost_updates: 1.0,
        };
        let text = String::from_utf8(metrics.text(&totals)).unwrap();
        for line in [
            "# TYPE bank_balance gauge",
            "bank_balance 900",
            "# TYPE bank_expected_balance gauge",
            "bank_expected_balance 800",
            "# TYPE bank_lost_updates_total counter",
            "bank_lost_updates_total 1",
            "# TYPE bank_deductions_total counter",
            "bank_deductions_total{mode=\"row\",result=\"applied\"} 1",
            "bank_deductions_total{mode=\"row\",result=\"insufficient\"} 1",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
        assert_eq!(metrics.deductions().get("applied"), Some(&1));
    }
}
