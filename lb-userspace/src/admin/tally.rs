//! How many connections there are, whose, and what carries them: without a look at
//! each of those in the kernel.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Admin;
use crate::dataplane::Path;
use crate::names;

/// Connections that have all of this in common.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) listener: String,
    pub(super) target_group: String,
    pub(super) target: SocketAddr,
    pub(super) path: Path,
    pub(super) count: u64,
}

impl Admin {
    /// All connections. One that is handed off in this moment may count twice.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let relayed = self.connections.relayed();
        let relayed = relayed.iter().map(|one| Tally {
            listener: one.listener.clone(),
            target_group: one.target_group.clone(),
            target: one.target,
            path: Path::Userspace,
            count: 1,
        });
        let path = self.dataplane.path();
        let flows = self.dataplane.census().into_iter();
        let flows = flows.map(|(owner, target, count)| Tally {
            listener: self.names.listener(owner.listener).into_owned(),
            target_group: self.names.target_group(owner.target_group).into_owned(),
            target,
            path,
            count,
        });
        relayed.chain(flows).collect()
    }
}

/// Connections of something, by what carries them.
pub(super) fn by_path<'a>(tallies: impl Iterator<Item = &'a Tally>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::from([("xdp", 0), ("tc", 0), ("userspace", 0)]);
    for tally in tallies {
        *counts.entry(names::path(tally.path)).or_default() += tally.count;
    }
    counts
}
