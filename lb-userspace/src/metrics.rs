//! What the daemon counts. Labels hold names of the configuration and fixed
//! words only, never what a client sent.

use std::time::Duration;

use http::StatusCode;
use lb_common::door::Rejection;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::dataplane::Refusal;
use crate::names;

/// From a fast answer in the LAN to the default response timeout.
const REQUEST_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0,
];
/// From an immediate handoff to one that waited for a quiet moment.
const HANDOFF_SECONDS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];
/// From a round trip in the LAN to the longest hold.
const HOLD_SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25];
/// From a page view to a day.
const CONNECTION_SECONDS: [f64; 8] = [0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0];

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

/// All counters of the daemon.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    upgrades_requested: IntCounterVec,
    upgrades: IntCounterVec,
    stickiness: IntCounterVec,
    rejected: IntCounterVec,
    access_log_dropped: IntCounter,
    health_checks: IntCounterVec,
    names_asked: IntCounterVec,
    certificate_reloads: IntCounterVec,
    certificate_not_after: IntGaugeVec,
    tunnel: TunnelMetrics,
    pub(crate) gauges: Gauges,
}

/// What a tunnel counts; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TunnelMetrics {
    handoffs: IntCounterVec,
    handoff_duration: Histogram,
    connections_ended: IntCounterVec,
    handoff_hold: Histogram,
    connection_duration: HistogramVec,
}

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

impl Metrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("limpet".to_owned()), None)?;
        let new = Builder(&registry);
        let info = new.gauges(
            "build_info",
            "The version that runs; always 1",
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: new.counters(
                "requests_total",
                "Answers, by who made them",
                &["listener", "target_group", "code", "origin"],
            )?,
            request_duration: new.histograms(
                "request_duration_seconds",
                "From a whole request head to the head of the answer",
                &["listener", "target_group"],
                &REQUEST_SECONDS,
            )?,
            upgrades_requested: new.counters(
                "upgrades_requested_total",
                "Requests to upgrade",
                &["listener", "target_group"],
            )?,
            upgrades: new.counters(
                "upgrades_total",
                "What became of requests to upgrade",
                &["listener", "target_group", "result"],
            )?,
            stickiness: new.counters(
                "stickiness_total",
                "What became of claims to a session",
                &["target_group", "verdict"],
            )?,
            rejected: new.counters(
                "rejected_total",
                "Requests, connections and SYNs turned away, because they were at fault",
                &["listener", "reason"],
            )?,
            access_log_dropped: new.counter(
                "access_log_dropped_total",
                "Lines of the access log that were not written",
            )?,
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
            certificate_reloads: new.counters(
                "certificate_reloads_total",
                "Changed certificate files, by what became of them",
                &["listener", "result"],
            )?,
            certificate_not_after: new.gauges(
                "certificate_not_after_seconds",
                "When the certificate that is served ends, in seconds since 1970",
                &["listener", "certificate"],
            )?,
            tunnel: TunnelMetrics::new(&new)?,
            gauges: Gauges::new(&new)?,
            registry,
        })
    }

    pub(crate) fn request(
        &self,
        listener: &str,
        group: &str,
        status: StatusCode,
        origin: Origin,
        took: Duration,
    ) {
        self.requests
            .with_label_values(&[listener, group, status.as_str(), origin.as_str()])
            .inc();
        let duration = self.request_duration.with_label_values(&[listener, group]);
        duration.observe(took.as_secs_f64());
    }

    pub(crate) fn upgrade_requested(&self, listener: &str, group: &str) {
        self.upgrades_requested
            .with_label_values(&[listener, group])
            .inc();
    }

    /// What there was so far of a listener's requests for a group.
    pub(crate) fn traffic(&self, listener: &str, group: &str) -> Traffic {
        let names = [listener, group];
        let accepted = [listener, group, "accepted"];
        Traffic {
            requests: self
                .request_duration
                .with_label_values(&names)
                .get_sample_count(),
            requested: self.upgrades_requested.with_label_values(&names).get(),
            accepted: self.upgrades.with_label_values(&accepted).get(),
        }
    }

    pub(crate) fn upgrade(&self, listener: &str, group: &str, result: Upgrade) {
        let result = match result {
            Upgrade::Accepted => "accepted",
            Upgrade::RefusedByTarget => "refused_by_target",
            Upgrade::Rejected => "rejected",
            Upgrade::Failed => "failed",
        };
        self.upgrades
            .with_label_values(&[listener, group, result])
            .inc();
    }

    pub(crate) fn verdict(&self, group: &str, verdict: &str) {
        self.stickiness.with_label_values(&[group, verdict]).inc();
    }

    pub(crate) fn rejected(&self, listener: &str, reason: &str) {
        self.rejected.with_label_values(&[listener, reason]).inc();
    }

    /// Counts lines of the access log that were not written.
    pub(crate) fn access_log_dropped(&self) -> IntCounter {
        self.access_log_dropped.clone()
    }

    pub(crate) fn health_checked(&self, result: &str) {
        self.health_checks.with_label_values(&[result]).inc();
    }

    /// A name of targets was looked up: `answered` or `failed`.
    pub(crate) fn name_asked(&self, group: &str, name: &str, result: &str) {
        let counter = self.names_asked.with_label_values(&[group, name, result]);
        counter.inc();
    }

    /// A changed certificate file was read: `new` or `broken`.
    pub(crate) fn certificate_read(&self, listener: &str, result: &str) {
        let counter = self
            .certificate_reloads
            .with_label_values(&[listener, result]);
        counter.inc();
    }

    /// Zeros from the start on: else an alert would not see the first one come.
    pub(crate) fn certificates_of(&self, listener: &str) {
        for result in ["new", "broken"] {
            self.certificate_reloads
                .with_label_values(&[listener, result]);
        }
    }

    /// When the certificate of a file ends, in seconds since 1970.
    pub(crate) fn certificate(&self, listener: &str, file: &str, end: u64) {
        let gauge = self
            .certificate_not_after
            .with_label_values(&[listener, file]);
        gauge.set(i64::try_from(end).unwrap_or(i64::MAX));
    }

    /// SYNs that the kernel has turned away at a listener's door.
    pub(crate) fn turned_away(&self, listener: &str, why: Rejection, count: u64) {
        let counter = self.rejected.with_label_values(&[listener, why.name()]);
        counter.inc_by(count);
    }

    /// What a new tunnel counts with.
    pub(crate) fn tunnel(&self) -> TunnelMetrics {
        self.tunnel.clone()
    }

    /// The Prometheus text format.
    pub(crate) fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl TunnelMetrics {
    fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
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

impl Gauges {
    fn new(new: &Builder<'_>) -> prometheus::Result<Self> {
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

/// Makes metrics and registers them.
struct Builder<'a>(&'a Registry);

impl Builder<'_> {
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let metric = IntCounter::new(name, help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let metric = IntGauge::new(name, help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let metric =
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lb_common::outcome::Outcome;

    const REFERENCE: &str = include_str!("../../docs/metrics.md");

    #[test]
    fn the_reference_has_every_metric_and_no_other() {
        // Named where they are made: a metric without a sample is not in its registry.
        let made = include_str!("metrics.rs").split("new.").filter_map(|call| {
            let (_, arguments) = call.split_once('(')?;
            let (name, _) = arguments.trim_start().strip_prefix('"')?.split_once('"')?;
            Some(name)
        });
        let made: BTreeSet<&str> = made.collect();
        let told = REFERENCE.split("`limpet_").skip(1).map(|text| {
            text.split(|c: char| c != '_' && !c.is_ascii_lowercase())
                .next()
                .unwrap_or_default()
        });
        let told: BTreeSet<&str> = told.collect();
        assert_eq!(told, made);
    }

    #[test]
    fn the_reference_has_every_outcome() {
        for outcome in Outcome::ALL {
            let word = format!("`{}`", outcome.name());
            assert!(REFERENCE.contains(&word), "{word}");
        }
    }
}
