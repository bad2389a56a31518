//! Who is turned away: for want of room, at a door, or for what was asked.

use lb_common::door::Rejection;
use prometheus::IntCounterVec;

use super::Metrics;
use super::builder::Builder;

/// The counter.
#[derive(Debug)]
pub(super) struct Rejected(IntCounterVec);

impl Rejected {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        new.counters(
            "rejected_total",
            "Requests, connections and SYNs turned away, because they were at fault",
            &["listener", "reason"],
        )
        .map(Self)
    }
}

impl Metrics {
    pub(crate) fn rejected(&self, listener: &str, reason: &str) {
        self.rejected.0.with_label_values(&[listener, reason]).inc();
    }

    /// SYNs that the kernel has turned away at a listener's door.
    pub(crate) fn turned_away(&self, listener: &str, why: Rejection, count: u64) {
        let counter = self.rejected.0.with_label_values(&[listener, why.name()]);
        counter.inc_by(count);
    }
}
