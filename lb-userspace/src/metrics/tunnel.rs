//! Upgraded connections: handoffs, and what ended them.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounterVec};

use super::Metrics;
use super::builder::Builder;
use crate::dataplane::Refusal;
use crate::names;

/// From an immediate handoff to one that waited for a quiet moment.
const HANDOFF_SECONDS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];
/// From a round trip in the LAN to the longest hold.
const HOLD_SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25];
/// From a page view to a day.
const CONNECTION_SECONDS: [f64; 8] = [0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0];

/// What a tunnel counts; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TunnelMetrics {
    handoffs: IntCounterVec,
    handoff_duration: Histogram,
    connections_ended: IntCounterVec,
    handoff_hold: Histogram,
    connection_duration: HistogramVec,
}

impl Metrics {
    /// What a new tunnel counts with.
    pub(crate) fn tunnel(&self) -> TunnelMetrics {
        self.tunnel.clone()
    }
}

impl TunnelMetrics {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            handoffs: new.counters(
                "handoffs_total",
                "Attempts to move a connection into the kernel",
                &["result", "reason"],
            )?,
            handoff_duration: new.histogram(
                "handoff_duration_seconds",
                "From the 101 to the kernel",
                &HANDOFF_SECONDS,
            )?,
            connections_ended: new.counters(
                "connections_ended_total",
                "Upgraded connections that have ended, by what carried them last and why",
                &["path", "cause"],
            )?,
            handoff_hold: new.histogram(
                "handoff_hold_seconds",
                "How long streams that are never quiet were held for the handoff",
                &HOLD_SECONDS,
            )?,
            connection_duration: new.histograms(
                "connection_duration_seconds",
                "How long upgraded connections lasted, by what carried them last",
                &["path"],
                &CONNECTION_SECONDS,
            )?,
        })
    }

    pub(crate) fn committed(&self, after: Duration) {
        self.handoffs.with_label_values(&["committed", ""]).inc();
        self.handoff_duration.observe(after.as_secs_f64());
    }

    /// Streams were held, with or without success.
    pub(crate) fn held(&self, long: Duration) {
        self.handoff_hold.observe(long.as_secs_f64());
    }

    pub(crate) fn not_now(&self, reason: Refusal) {
        self.handoffs
            .with_label_values(&["not_now", names::refusal(reason)])
            .inc();
    }

    pub(crate) fn never(&self, reason: Refusal) {
        self.handoffs
            .with_label_values(&["never", names::refusal(reason)])
            .inc();
    }

    /// A connection has ended on `path`.
    pub(crate) fn ended(&self, path: &str, cause: &str, after: Duration) {
        self.connections_ended
            .with_label_values(&[path, cause])
            .inc();
        self.connection_duration
            .with_label_values(&[path])
            .observe(after.as_secs_f64());
    }
}
