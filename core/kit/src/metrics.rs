//! Prometheus metrics: the registry every daemon starts from, buckets, and a guard that keeps series bounded.

use std::borrow::Cow;
use std::collections::BTreeSet;

use prometheus::core::Collector;
use prometheus::{IntGaugeVec, Opts, Registry};

mod process;

pub use process::ProcessCollector;

/// Bucket bounds for lock and backend latencies, in seconds: 0.25 ms to 60 s.
pub const LATENCY_BUCKETS: [f64; 17] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];

/// What a [`BoundedLabel`] answers for a value it does not know.
pub const OTHER: &str = "other";

/// What a program says of itself in `pawl_build_info`.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// Which daemon: `sidecar`, `operator`.
    pub component: &'static str,
    /// The daemon's version, `CARGO_PKG_VERSION`.
    pub version: &'static str,
    /// The commit it was built from, `unknown` when that is not known.
    pub revision: &'static str,
}

/// A registry with `pawl_build_info` and the process's own metrics.
///
/// # Errors
/// Never in practice: the names are fixed and unique.
pub fn registry(build: BuildInfo) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let info = IntGaugeVec::new(
        Opts::new("pawl_build_info", "Which program this is; always 1."),
        &["component", "version", "revision"],
    )?;
    info.with_label_values(&[build.component, build.version, build.revision])
        .set(1);
    register(&registry, info)?;
    register(&registry, ProcessCollector::new()?)?;
    Ok(registry)
}

/// Registers a metric and hands it back.
///
/// # Errors
/// When a metric of that name is there already.
pub fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// The values a label may have, fixed when it is made: whatever comes later is counted as [`OTHER`], so that no input
/// can make a new series.
#[derive(Clone, Debug)]
pub struct BoundedLabel(BTreeSet<Cow<'static, str>>);

impl BoundedLabel {
    /// The most values that a label may have; further ones count as [`OTHER`].
    pub const MAX_VALUES: usize = 1024;

    /// A label with these values, of which the first [`BoundedLabel::MAX_VALUES`] count.
    pub fn new<V: Into<Cow<'static, str>>>(values: impl IntoIterator<Item = V>) -> Self {
        Self(
            values
                .into_iter()
                .map(Into::into)
                .take(Self::MAX_VALUES)
                .collect(),
        )
    }

    /// `value` when it is one of the label's, else [`OTHER`].
    pub fn of<'a>(&self, value: &'a str) -> &'a str {
        if self.0.contains(value) { value } else { OTHER }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_registry_says_what_runs_and_how_much_it_takes() {
        let registry = registry(BuildInfo {
            component: "sidecar",
            version: "1.2.3",
            revision: "abc",
        })
        .unwrap();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let info = r#"pawl_build_info{component="sidecar",revision="abc",version="1.2.3"} 1"#;
        assert!(text.contains(info), "{text}");
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} in {text}"))
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!((3.0..10_000.0).contains(&value("process_open_fds")));
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let started = value("process_start_time_seconds");
        let now = crate::clock::Clock::system().wall().unix_seconds();
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let age = now as f64 - started;
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn buckets_climb_from_a_quarter_millisecond_to_a_minute() {
        assert!(LATENCY_BUCKETS.is_sorted_by(|a, b| a < b));
        assert_eq!((LATENCY_BUCKETS[0], LATENCY_BUCKETS[16]), (0.000_25, 60.0));
    }

    proptest! {
        #[test]
        fn no_input_makes_a_new_label_value(known in proptest::collection::vec("[a-c]{1,2}", 0..6), value in "[a-e]{1,2}") {
            let label = BoundedLabel::new(known.clone());
            let expected = if known.contains(&value) { value.as_str() } else { OTHER };
            prop_assert_eq!(label.of(&value), expected);
        }
    }

    #[test]
    fn a_label_has_at_most_its_maximum_of_values() {
        let values = (0..2 * BoundedLabel::MAX_VALUES).map(|n| n.to_string());
        let label = BoundedLabel::new(values);
        let known = (0..2 * BoundedLabel::MAX_VALUES)
            .filter(|n| label.of(&n.to_string()) != OTHER)
            .count();
        assert_eq!(known, BoundedLabel::MAX_VALUES);
    }
}
