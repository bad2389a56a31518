//! How many entries the flow table holds and whose they are, counted as they come
//! and go: what is asked at every scrape must not cost a walk.

use std::collections::HashMap;
use std::net::SocketAddr;

use lb_common::flow::Flow;
use lb_common::word;

use super::address;
use super::types::Owner;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Census {
    entries: u64,
    flows: HashMap<(Owner, SocketAddr), u64>,
}

impl Census {
    /// An entry that is in the table now.
    pub(super) fn came(&mut self, flow: &Flow) {
        self.entries += 1;
        if flow.word & word::COMMITTED != 0 {
            self.committed(flow);
        }
    }

    /// An entry of the table has become a flow of the kernel.
    pub(super) fn committed(&mut self, flow: &Flow) {
        *self.flows.entry(belongs(flow)).or_default() += 1;
    }

    /// An entry, as it was last, is gone.
    pub(super) fn went(&mut self, flow: &Flow) {
        self.entries = self.entries.saturating_sub(1);
        if flow.word & word::COMMITTED == 0 {
            return;
        }
        if let Some(count) = self.flows.get_mut(&belongs(flow)) {
            *count -= 1;
            if *count == 0 {
                self.flows.remove(&belongs(flow));
            }
        }
    }

    /// Entries, observing ones included.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Flows by owner and target; only those that have some.
    pub(super) fn flows(&self) -> Vec<(Owner, SocketAddr, u64)> {
        let counts = self.flows.iter();
        counts
            .map(|((owner, target), count)| (*owner, *target, *count))
            .collect()
    }
}

fn belongs(flow: &Flow) -> (Owner, SocketAddr) {
    let owner = Owner {
        listener: flow.listener,
        target_group: flow.target_group,
    };
    (owner, address::peer(&flow.target))
}
