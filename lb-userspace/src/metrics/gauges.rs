//! Numbers that others keep, read at every scrape by `admin/metrics`.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::builder::Builder;

/// What is read from elsewhere at every scrape.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) connections: IntGaugeVec,
    pub(crate) target_connections: IntGaugeVec,
    pub(crate) target_healthy: IntGaugeVec,
    pub(crate) drain_remaining_connections: IntGaugeVec,
    pub(crate) queue_waiting: IntGaugeVec,
    pub(crate) queued: IntCounterVec,
    pub(crate) flows: IntGaugeVec,
    pub(crate) flow_table_entries: IntGauge,
    pub(crate) flow_table_capacity: IntGauge,
    pub(crate) source_ports_used: IntGaugeVec,
    pub(crate) source_ports_capacity: IntGaugeVec,
    pub(crate) fastpath_packets: IntCounterVec,
}

impl Gauges {
    pub(super) fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            connections: new.gauges(
                "connections",
                "Upgraded connections",
                &["listener", "path"],
            )?,
            target_connections: new.gauges(
                "target_connections",
                "Upgraded connections of a target",
                &["target_group", "target", "path"],
            )?,
            target_healthy: new.gauges(
                "target_healthy",
                "1 if the target's health checks succeed",
                &["target_group", "target"],
            )?,
            drain_remaining_connections: new.gauges(
                "drain_remaining_connections",
                "Upgraded connections that a draining target still has",
                &["target_group", "target"],
            )?,
            queue_waiting: new.gauges(
                "queue_waiting",
                "Requests and connections that wait for room at a target",
                &["target_group"],
            )?,
            queued: new.counters(
                "queued_total",
                "Requests and connections that have waited for room at a target",
                &["target_group", "result"],
            )?,
            flows: new.gauges("flows", "Connections in the kernel", &["path"])?,
            flow_table_entries: new.gauge("flow_table_entries", "Flows in the flow table")?,
            flow_table_capacity: new.gauge("flow_table_capacity", "Flows that fit")?,
            source_ports_used: new.gauges(
                "source_ports_used",
                "Source ports in use or at rest, toward a target",
                &["target"],
            )?,
            source_ports_capacity: new.gauges(
                "source_ports_capacity",
                "Source ports there are, toward a target",
                &["target"],
            )?,
            fastpath_packets: new.counters(
                "fastpath_packets_total",
                "Packets that the kernel program has seen",
                &["direction", "outcome"],
            )?,
        })
    }
}
