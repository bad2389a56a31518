//! How many connections each target has in the kernel, for balancing by it and for
//! limits. Counted before the first client is let in, then every second: what opens in
//! between is counted at once, what ends in between a little later.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Algorithm;
use crate::dataplane::Dataplane;
use crate::id::flow_label;
use crate::target::{Group, Registry};

/// A target that lost many connections gets new ones after this.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug)]
pub(crate) struct Occupancy {
    registry: Arc<Registry>,
    dataplane: Dataplane,
}

impl Occupancy {
    /// Counted for the first time.
    pub(crate) fn new(registry: Arc<Registry>, dataplane: Dataplane) -> Self {
        let occupancy = Self {
            registry,
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
        let snapshots: Vec<_> = self
            .groups()
            .map(|group| (flow_label(group.id), group.snapshot()))
            .collect();
        let targets = snapshots.iter().flat_map(|(group, snapshot)| {
            let targets = snapshot.targets().iter();
            targets.map(|target| ((*group, target.address), target.load()))
        });
        let before: Vec<_> = targets
            .map(|(key, load)| (key, load, load.counting()))
            .collect();
        let mut counts = HashMap::<(u32, SocketAddr), u64>::new();
        for (owner, target, count) in self.dataplane.census() {
            *counts.entry((owner.target_group, target)).or_default() += count;
        }
        for (key, load, fresh) in before {
            load.counted(counts.get(&key).copied().unwrap_or(0), fresh);
        }
    }

    fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let groups = self.registry.groups().iter();
        groups.filter(|group| {
            let config = &group.config;
            config.algorithm == Algorithm::LeastOutstanding || config.max_connections > 0
        })
    }
}
