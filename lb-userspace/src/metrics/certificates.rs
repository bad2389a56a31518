//! The certificates that listeners serve.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Metrics;
use super::builder::Builder;

/// The counters.
#[derive(Debug)]
pub(super) struct CertificateMetrics {
    reloads: IntCounterVec,
    not_after: IntGaugeVec,
}

impl CertificateMetrics {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            reloads: new.counters(
                "certificate_reloads_total",
                "Changed certificate files, by what became of them",
                &["listener", "result"],
            )?,
            not_after: new.gauges(
                "certificate_not_after_seconds",
                "When the certificate that is served ends, in seconds since 1970",
                &["listener", "certificate"],
            )?,
        })
    }
}

impl Metrics {
    /// Zeros from the start on: else an alert would not see the first one come.
    pub(crate) fn certificates_of(&self, listener: &str) {
        for result in ["new", "broken"] {
            self.certificates
                .reloads
                .with_label_values(&[listener, result]);
        }
    }

    /// A changed certificate file was read: `new` or `broken`.
    pub(crate) fn certificate_read(&self, listener: &str, result: &str) {
        let counter = self
            .certificates
            .reloads
            .with_label_values(&[listener, result]);
        counter.inc();
    }

    /// When the certificate of a file ends, in seconds since 1970.
    pub(crate) fn certificate(&self, listener: &str, file: &str, end: u64) {
        let gauge = self
            .certificates
            .not_after
            .with_label_values(&[listener, file]);
        gauge.set(i64::try_from(end).unwrap_or(i64::MAX));
    }
}
