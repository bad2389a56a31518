//! Requests: who answered them, how fast, and whose they were found to be; and what was
//! not logged.

use std::time::Duration;

use http::StatusCode;
use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::Metrics;
use super::builder::Builder;

/// From a fast answer in the LAN to the default response timeout.
const REQUEST_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0,
];

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Balancer,
    Target,
}

impl Origin {
    /// The label, and the word in the access log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Target => "target",
        }
    }
}

/// The counters.
#[derive(Debug)]
pub(super) struct Requests {
    answers: IntCounterVec,
    duration: HistogramVec,
    stickiness: IntCounterVec,
    access_log_dropped: IntCounter,
    log_dropped: IntCounter,
}

impl Requests {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            answers: new.counters(
                "requests_total",
                "Answers, by who made them",
                &["listener", "target_group", "code", "origin"],
            )?,
            duration: new.histograms(
                "request_duration_seconds",
                "From a whole request head to the head of the answer",
                &["listener", "target_group"],
                &REQUEST_SECONDS,
            )?,
            stickiness: new.counters(
                "stickiness_total",
                "What became of claims to a session",
                &["target_group", "verdict"],
            )?,
            access_log_dropped: new.counter(
                "access_log_dropped_total",
                "Lines of the access log that were not written",
            )?,
            log_dropped: new.counter(
                "log_dropped_total",
                "Lines of the daemon's own log that were not written",
            )?,
        })
    }

    /// How many of a listener's requests for a group have been answered.
    pub(super) fn answered(&self, listener: &str, group: &str) -> u64 {
        let duration = self.duration.with_label_values(&[listener, group]);
        duration.get_sample_count()
    }
}

impl Metrics {
    pub(crate) fn request(
        &self,
        listener: &str,
        group: &str,
        status: StatusCode,
        origin: Origin,
        took: Duration,
    ) {
        self.requests
            .answers
            .with_label_values(&[listener, group, status.as_str(), origin.as_str()])
            .inc();
        let duration = self.requests.duration.with_label_values(&[listener, group]);
        duration.observe(took.as_secs_f64());
    }

    pub(crate) fn verdict(&self, group: &str, verdict: &str) {
        self.requests
            .stickiness
            .with_label_values(&[group, verdict])
            .inc();
    }

    /// Counts lines of the access log that were not written.
    pub(crate) fn access_log_dropped(&self) -> &IntCounter {
        &self.requests.access_log_dropped
    }

    /// Counts lines of the daemon's own log that were not written.
    pub(crate) fn log_dropped(&self) -> &IntCounter {
        &self.requests.log_dropped
    }
}
