//! `/metrics`: counters as they are, gauges read at this moment.

use std::collections::BTreeMap;

use super::Admin;
use super::tally::{Tally, by_path};
use crate::metrics::Gauges;
use crate::target::{Ended, Group, Health, Target};

impl Admin {
    /// The text; the error is a sentence.
    pub(super) fn render_metrics(&self) -> Result<String, String> {
        let tallies = self.tallies();
        let gauges = &self.metrics.gauges;
        self.read_connections(gauges, &tallies);
        self.read_dataplane(gauges, &tallies);
        self.metrics.render().map_err(|error| error.to_string())
    }

    /// Every listener and target has its number, zero too; names that only
    /// adopted flows still know come on top.
    fn read_connections(&self, gauges: &Gauges, tallies: &[Tally]) {
        let mut listeners = grouped(tallies, |one| one.listener.clone());
        for listener in &self.listeners {
            listeners.entry(listener.name.clone()).or_default();
        }
        gauges.connections.reset();
        for (listener, tallies) in listeners {
            for (path, count) in by_path(tallies.into_iter()) {
                let labels = [listener.as_str(), path];
                gauges
                    .connections
                    .with_label_values(&labels)
                    .set(whole(count));
            }
        }
        self.read_target_connections(gauges, tallies);
    }

    fn read_target_connections(&self, gauges: &Gauges, tallies: &[Tally]) {
        let label = |one: &Tally| (one.target_group.clone(), one.target.to_string());
        let mut targets = grouped(tallies, label);
        gauges.target_healthy.reset();
        gauges.drain_remaining_connections.reset();
        for group in self.registry.groups() {
            read_queue(gauges, group);
            for target in group.snapshot().targets() {
                let names = (group.name.clone(), target.label.clone());
                let tallies = targets.entry(names).or_default();
                let connections = tallies.iter().map(|one| one.count).sum();
                read_target(gauges, group, target, connections);
            }
        }
        gauges.target_connections.reset();
        for ((group, target), tallies) in targets {
            for (path, count) in by_path(tallies.into_iter()) {
                let labels = [group.as_str(), target.as_str(), path];
                gauges
                    .target_connections
                    .with_label_values(&labels)
                    .set(whole(count));
            }
        }
    }

    fn read_dataplane(&self, gauges: &Gauges, tallies: &[Tally]) {
        for (path, count) in by_path(tallies.iter())
            .into_iter()
            .filter(|(path, _)| *path != "userspace")
        {
            gauges.flows.with_label_values(&[path]).set(whole(count));
        }
        let (entries, capacity) = self.dataplane.occupancy();
        gauges.flow_table_entries.set(whole(entries));
        gauges.flow_table_capacity.set(whole(capacity));
        for (target, used, capacity) in self.dataplane.source_ports() {
            let target = target.to_string();
            gauges
                .source_ports_used
                .with_label_values(&[target.as_str()])
                .set(whole(used));
            gauges
                .source_ports_capacity
                .with_label_values(&[target.as_str()])
                .set(whole(capacity));
        }
        for (direction, outcome, packets) in self.dataplane.packet_counters() {
            let counter = gauges
                .fastpath_packets
                .with_label_values(&[direction, outcome]);
            counter.inc_by(packets.saturating_sub(counter.get()));
        }
        for turned in self.dataplane.turned_away() {
            let listener = self.names.listener(turned.listener);
            self.metrics
                .turned_away(&listener, turned.why, turned.count);
        }
    }
}

fn read_target(gauges: &Gauges, group: &Group, target: &Target, connections: u64) {
    let labels = [group.name.as_str(), target.label.as_str()];
    let healthy = i64::from(target.health == Health::Healthy);
    gauges
        .target_healthy
        .with_label_values(&labels)
        .set(healthy);
    if target.drain.is_some() {
        let remaining = &gauges.drain_remaining_connections;
        remaining.with_label_values(&labels).set(whole(connections));
    }
}

fn read_queue(gauges: &Gauges, group: &Group) {
    let (name, queue) = (group.name.as_str(), group.queue());
    let waiting = u64::try_from(queue.waiting()).unwrap_or(u64::MAX);
    let gauge = gauges.queue_waiting.with_label_values(&[name]);
    gauge.set(whole(waiting));
    for how in Ended::ALL {
        let counter = gauges.queued.with_label_values(&[name, how.as_str()]);
        counter.inc_by(queue.count(how).saturating_sub(counter.get()));
    }
}

fn grouped<K: Ord>(tallies: &[Tally], key: impl Fn(&Tally) -> K) -> BTreeMap<K, Vec<&Tally>> {
    let mut groups = BTreeMap::<K, Vec<&Tally>>::new();
    for tally in tallies {
        groups.entry(key(tally)).or_default().push(tally);
    }
    groups
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
