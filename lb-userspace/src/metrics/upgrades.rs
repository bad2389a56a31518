//! Requests that ask to become a WebSocket, and what becomes of them.

use prometheus::IntCounterVec;

use super::Metrics;
use super::builder::Builder;

/// What became of an upgrade request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// A verified 101.
    Accepted,
    /// The target answered something else than 101.
    RefusedByTarget,
    /// The request did not pass the gate, or a rule answered it.
    Rejected,
    /// The target could not be reached, or its 101 was wrong.
    Failed,
}

/// Requests, and what of them were upgrades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// All that were answered.
    pub(crate) requests: u64,
    /// Those that wanted to become a WebSocket.
    pub(crate) requested: u64,
    /// Those that did.
    pub(crate) accepted: u64,
}

impl Traffic {
    /// What has come since.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            requested: self.requested.saturating_sub(earlier.requested),
            accepted: self.accepted.saturating_sub(earlier.accepted),
        }
    }
}

/// The counters.
#[derive(Debug)]
pub(super) struct Upgrades {
    requested: IntCounterVec,
    results: IntCounterVec,
}

impl Upgrades {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            requested: new.counters(
                "upgrades_requested_total",
                "Requests to upgrade",
                &["listener", "target_group"],
            )?,
            results: new.counters(
                "upgrades_total",
                "What became of requests to upgrade",
                &["listener", "target_group", "result"],
            )?,
        })
    }
}

impl Metrics {
    pub(crate) fn upgrade_requested(&self, listener: &str, group: &str) {
        self.upgrades
            .requested
            .with_label_values(&[listener, group])
            .inc();
    }

    pub(crate) fn upgrade(&self, listener: &str, group: &str, result: Upgrade) {
        let result = match result {
            Upgrade::Accepted => "accepted",
            Upgrade::RefusedByTarget => "refused_by_target",
            Upgrade::Rejected => "rejected",
            Upgrade::Failed => "failed",
        };
        self.upgrades
            .results
            .with_label_values(&[listener, group, result])
            .inc();
    }

    /// What there was so far of a listener's requests for a group.
    pub(crate) fn traffic(&self, listener: &str, group: &str) -> Traffic {
        let names = [listener, group];
        let accepted = [listener, group, "accepted"];
        Traffic {
            requests: self.requests.answered(listener, group),
            requested: self.upgrades.requested.with_label_values(&names).get(),
            accepted: self.upgrades.results.with_label_values(&accepted).get(),
        }
    }
}
