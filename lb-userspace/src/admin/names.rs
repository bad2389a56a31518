//! From the hashes that flows carry back to the names of the configuration.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Listener;
use crate::id::name_id;
use crate::target::Group;

/// Names by their ids; of an id a flow keeps the lower half.
#[derive(Debug)]
pub(crate) struct Names {
    listeners: HashMap<u32, String>,
    target_groups: HashMap<u32, String>,
}

impl Names {
    pub(crate) fn new(listeners: &[Listener], groups: &[Arc<Group>]) -> Self {
        let listeners = listeners
            .iter()
            .map(|one| (lower(name_id(&one.name)), one.name.clone()));
        let target_groups = groups.iter().map(|one| (lower(one.id), one.name.clone()));
        Self {
            listeners: listeners.collect(),
            target_groups: target_groups.collect(),
        }
    }

    /// The listener's name; its id if the configuration has lost it.
    pub(crate) fn listener(&self, id: u64) -> Cow<'_, str> {
        name(&self.listeners, id)
    }

    /// The target group's name; its id if the configuration has lost it.
    pub(crate) fn target_group(&self, id: u64) -> Cow<'_, str> {
        name(&self.target_groups, id)
    }
}

fn name(names: &HashMap<u32, String>, id: u64) -> Cow<'_, str> {
    names
        .get(&lower(id))
        .map_or_else(|| format!("#{:08x}", lower(id)).into(), Into::into)
}

fn lower(id: u64) -> u32 {
    (id & u64::from(u32::MAX)) as u32
}
