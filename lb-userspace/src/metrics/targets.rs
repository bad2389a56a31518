//! What is asked about targets: their health, and the addresses of their names.

use prometheus::IntCounterVec;

use super::Metrics;
use super::builder::Builder;

/// The counters.
#[derive(Debug)]
pub(super) struct TargetMetrics {
    health_checks: IntCounterVec,
    names_asked: IntCounterVec,
}

impl TargetMetrics {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            health_checks: new.counters(
                "health_checks_total",
                "Health checks of targets",
                &["result"],
            )?,
            names_asked: new.counters(
                "dns_lookups_total",
                "Lookups of the names of targets",
                &["target_group", "name", "result"],
            )?,
        })
    }
}

impl Metrics {
    pub(crate) fn health_checked(&self, result: &str) {
        self.targets
            .health_checks
            .with_label_values(&[result])
            .inc();
    }

    /// A name of targets was looked up: `answered` or `failed`.
    pub(crate) fn name_asked(&self, group: &str, name: &str, result: &str) {
        let counter = self
            .targets
            .names_asked
            .with_label_values(&[group, name, result]);
        counter.inc();
    }
}
