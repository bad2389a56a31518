//! Target groups as they are running: targets with stable ids, and their turn.

use std::net::SocketAddr;

use crate::balance::RoundRobin;
use crate::config;
use crate::id;

/// One backend.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Hash of group and address: what the cookie says.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    /// The address as a label value and for the log.
    pub(crate) label: String,
    pub(crate) weight: u32,
}

/// Targets that serve the same thing.
#[derive(Debug)]
pub(crate) struct Group {
    /// Hash of the name: what the cookie and a flow say.
    pub(crate) id: u64,
    pub(crate) name: String,
    targets: Vec<Target>,
    balance: RoundRobin,
}

impl Group {
    pub(crate) fn new(config: &config::TargetGroup) -> Self {
        let targets: Vec<Target> = config
            .targets
            .iter()
            .map(|target| Target::new(&config.name, target))
            .collect();
        let weights = targets.iter().map(|target| target.weight).collect();
        Self {
            id: id::name_id(&config.name),
            name: config.name.clone(),
            targets,
            balance: RoundRobin::new(weights),
        }
    }

    /// The target with this id, if it is registered.
    pub(crate) fn find(&self, id: u64) -> Option<&Target> {
        self.targets.iter().find(|target| target.id == id)
    }

    /// The target whose turn it is, leaving out those in `tried`.
    pub(crate) fn balance(&self, tried: &[u64]) -> Option<&Target> {
        let untried = |index: usize| {
            self.targets
                .get(index)
                .is_some_and(|target| !tried.contains(&target.id))
        };
        let index = self.balance.next(untried)?;
        self.targets.get(index)
    }

    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }
}

impl Target {
    fn new(group: &str, config: &config::TargetConfig) -> Self {
        Self {
            id: id::target_id(group, config.address),
            address: config.address,
            label: config.address.to_string(),
            weight: config.weight,
        }
    }
}
