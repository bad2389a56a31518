//! The targets of a group at one moment: who is there, and who gets new sessions.

use std::collections::HashMap;
use std::sync::Arc;

use super::health::Health;
use super::member::{State, Target};
use crate::balance::{Balance, Candidate, Request};
use crate::config::Algorithm;

/// Never changed: a change of the group is another snapshot.
#[derive(Debug)]
pub(crate) struct Snapshot {
    targets: Vec<Arc<Target>>,
    by_id: HashMap<u64, Arc<Target>>,
    /// Those that new sessions are spread over.
    open: Vec<Arc<Target>>,
    /// They are unhealthy all.
    fails_open: bool,
    balance: Balance,
}

impl Snapshot {
    pub(super) fn new(targets: Vec<Arc<Target>>, algorithm: Algorithm) -> Self {
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
        let candidate = |target: &Arc<Target>| Candidate {
            id: target.id,
            weight: target.weight,
        };
        let candidates: Vec<Candidate> = open.iter().map(candidate).collect();
        let balance = Balance::new(algorithm, &candidates);
        Self {
            targets,
            by_id,
            open,
            fails_open: stage == Some(State::Unhealthy),
            balance,
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

    /// Whether all are unhealthy, and get requests all the same.
    pub(crate) fn fails_open(&self) -> bool {
        self.fails_open
    }

    /// Whether the target is not worth a try: it is unhealthy, and others are not.
    pub(crate) fn is_down(&self, target: &Target) -> bool {
        let others = !self.fails_open && !self.open.is_empty();
        others && matches!(target.health, Health::Unhealthy(_))
    }

    /// All of them, in the order of the file, then of their addresses.
    pub(crate) fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
