//! The targets of a group at one moment: who is there, and who gets new sessions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::health::Health;
use super::member::{State, Target};
use super::warmth::{WHOLE, Warmth};
use crate::balance::{Balance, Candidate, Request, SourceHash, mix};
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
    /// Some of them have less than their share.
    is_warming: bool,
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
        let is_warming = open.iter().any(|target| target.warmth != Warmth::Warm);
        let owners = config.is_by_source().then(|| Owners::new(&targets));
        Self {
            targets,
            by_id,
            open,
            stage,
            balance,
            is_warming,
            owners,
        }
    }

    /// The target with this id, if it is registered.
    pub(crate) fn find(&self, id: u64) -> Option<&Arc<Target>> {
        self.by_id.get(&id)
    }

    /// The target for a request that belongs to nobody yet, leaving out those in `tried`
    /// and those that are full.
    pub(crate) fn balance(&self, request: Request, tried: &[u64]) -> Option<&Arc<Target>> {
        let open = |index: usize| self.open.get(index);
        let may = |index| open(index).is_some_and(|target| can(target, tried));
        let load = |index| open(index).map_or(0, |target| weighed_load(target, request.now));
        let turn = |index: usize| {
            let share = open(index).map_or(0, |target| target.warmth.share(request.now));
            may(index) && mix(request.random ^ index as u64) % WHOLE < share
        };
        // Among those that are warming up, whose turn it is may lose it by lot.
        let chosen = match self.is_warming && !self.balance.is_by_load() {
            true => self.balance.choose(request, turn, load),
            false => None,
        };
        open(chosen.or_else(|| self.balance.choose(request, may, load))?)
    }

    /// Whether there is anybody for a request, full or not.
    pub(crate) fn has_untried(&self, tried: &[u64]) -> bool {
        self.open.iter().any(|target| !tried.contains(&target.id))
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
        let may = |target: &Arc<Target>| self.takes_new(target) && can(target, tried);
        let may = |index| owners.targets.get(index).is_some_and(may);
        owners.targets.get(owners.table.choose(source, may)?)
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

fn can(target: &Target, tried: &[u64]) -> bool {
    !tried.contains(&target.id) && target.load().has_room()
}

/// What it has to do, as if it had its whole share: with the request that is chosen for,
/// or a share would not tell idle targets apart.
fn weighed_load(target: &Target, now: Instant) -> u64 {
    let load = target.load().outstanding();
    match target.warmth.share(now) {
        WHOLE => load,
        share => (load + 1).saturating_mul(WHOLE) / share - 1,
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
