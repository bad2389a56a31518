//! How many upgraded connections each target has, relayed or in the kernel, for
//! balancing by it. Counted before the first client is let in, then every second:
//! what opens in between is counted at once, what ends in between a little later.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Algorithm;
use crate::connections::Connections;
use crate::dataplane::Dataplane;
use crate::id::flow_label;
use crate::target::{Group, Registry};

/// A target that lost many connections gets new ones after this.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug)]
pub(crate) struct Occupancy {
    registry: Arc<Registry>,
    connections: Arc<Connections>,
    dataplane: Dataplane,
}

impl Occupancy {
    /// Counted for the first time.
    pub(crate) fn new(
        registry: Arc<Registry>,
        connections: Arc<Connections>,
        dataplane: Dataplane,
    ) -> Self {
        let occupancy = Self {
            registry,
            connections,
            dataplane,
        };
        occupancy.count();
        occupancy
    }

    /// Counts for ever, if any group asks for it.
    pub(crate) async fn run(self) {
        while self.groups().next().is_some() {
            tokio::time::sleep(COUNT_EVERY).await;
            self.count();
        }
    }

    fn count(&self) {
        if self.groups().next().is_none() {
            return;
        }
        let mut counts = HashMap::<(u32, SocketAddr), u64>::new();
        for (owner, target, count) in self.dataplane.census() {
            *counts.entry((owner.target_group, target)).or_default() += count;
        }
        for one in self.connections.relayed() {
            let group = self.registry.find(&one.target_group);
            if let Some(group) = group {
                *counts
                    .entry((flow_label(group.id), one.target))
                    .or_default() += 1;
            }
        }
        for group in self.groups() {
            for target in group.snapshot().targets() {
                let key = (flow_label(group.id), target.address);
                target
                    .load()
                    .set_upgraded(counts.get(&key).copied().unwrap_or(0));
            }
        }
    }

    fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let groups = self.registry.groups().iter();
        groups.filter(|group| group.config.algorithm == Algorithm::LeastOutstanding)
    }
}
