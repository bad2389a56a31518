//! The targets of a group at one moment: who is there, and who gets new sessions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::health::Health;
use super::member::{State, Target};
use crate::balance::{Balance, Candidate, Request, SourceHash};
use crate::config::TargetGroup;

/// Never changed: a change of the group is another snapshot.
#[derive(Debug)]
pub(crate) struct Snapshot {
    targets: Vec<Arc<Target>>,
    by_id: HashMap<u64, Arc<Target>>,
    /// Those that new sessions are spread over.
    open: Vec<Arc<Target>>,
    /// What those have in common; `None` where nobody gets any.
    stage: Option<State>,
    balance: Balance,
    /// Which addresses belong to whom, where that decides.
    owners: Option<Owners>,
}

/// All targets with a weight, whatever their state: who comes back owns the same.
#[derive(Debug)]
struct Owners {
    targets: Vec<Arc<Target>>,
    table: SourceHash,
}

impl Snapshot {
    pub(super) fn new(targets: Vec<Arc<Target>>, config: &TargetGroup) -> Self {
        let by_id = targets
            .iter()
            .map(|target| (target.id, target.clone()))
            .collect();
        // Each stage only if there is nobody in the one before.
        let stages = [State::Healthy, State::Initial, State::Unhealthy];
        let stage = stages
            .into_iter()
            .find(|stage| targets.iter().any(|target| target.state() == *stage));
        let open: Vec<Arc<Target>> = targets
            .iter()
            .filter(|target| Some(target.state()) == stage)
            .cloned()
            .collect();
        let balance = Balance::new(config.algorithm, &candidates(&open));
        let owners = config.is_by_source().then(|| Owners::new(&targets));
        Self {
            targets,
            by_id,
            open,
            stage,
            balance,
            owners,
        }
    }

    /// The target with this id, if it is registered.
    pub(crate) fn find(&self, id: u64) -> Option<&Arc<Target>> {
        self.by_id.get(&id)
    }

    /// The target for a request that no cookie decides, leaving out those in `tried`.
    pub(crate) fn balance(&self, request: Request, tried: &[u64]) -> Option<&Arc<Target>> {
        let open = |index: usize| self.open.get(index);
        let untried = |index| open(index).is_some_and(|target| !tried.contains(&target.id));
        let load = |index| open(index).map_or(0, |target| target.load().outstanding());
        open(self.balance.choose(request, untried, load)?)
    }

    /// The target that this address belongs to, in whatever state it is.
    pub(crate) fn owner_of(&self, source: IpAddr) -> Option<&Arc<Target>> {
        let owners = self.owners.as_ref()?;
        owners.targets.get(owners.table.choose(source, |_| true)?)
    }

    /// The target that stands in for an owner who cannot be had, leaving out those in
    /// `tried`: the same for an address as long as it can be had itself.
    pub(crate) fn stand_in(&self, source: IpAddr, tried: &[u64]) -> Option<&Arc<Target>> {
        let owners = self.owners.as_ref()?;
        let can = |target: &Arc<Target>| self.takes_new(target) && !tried.contains(&target.id);
        let can = |index| owners.targets.get(index).is_some_and(can);
        owners.targets.get(owners.table.choose(source, can)?)
    }

    /// Whether the target is among those that get new sessions.
    pub(crate) fn takes_new(&self, target: &Target) -> bool {
        Some(target.state()) == self.stage
    }

    /// Whether all are unhealthy, and get requests all the same.
    pub(crate) fn fails_open(&self) -> bool {
        self.stage == Some(State::Unhealthy)
    }

    /// Whether the target is not worth a try: it is unhealthy, and others are not.
    pub(crate) fn is_down(&self, target: &Target) -> bool {
        let others = !self.fails_open() && !self.open.is_empty();
        others && matches!(target.health, Health::Unhealthy(_))
    }

    /// All of them, in the order of the file, then of their addresses.
    pub(crate) fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }
}

impl Owners {
    fn new(targets: &[Arc<Target>]) -> Self {
        let weighted = targets.iter().filter(|target| target.weight > 0);
        let targets: Vec<Arc<Target>> = weighted.cloned().collect();
        let table = SourceHash::new(&candidates(&targets));
        Self { targets, table }
    }
}

fn candidates(targets: &[Arc<Target>]) -> Vec<Candidate> {
    let candidate = |target: &Arc<Target>| Candidate {
        id: target.id,
        weight: target.weight,
    };
    targets.iter().map(candidate).collect()
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
