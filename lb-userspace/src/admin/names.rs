//! From the hashes that flows carry back to the names of the configuration.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Listener;
use crate::id::{flow_label, name_id};
use crate::target::Group;

/// Names by their labels.
#[derive(Debug)]
pub(crate) struct Names {
    listeners: HashMap<u32, String>,
    protocols: HashMap<u32, &'static str>,
    target_groups: HashMap<u32, String>,
}

impl Names {
    pub(crate) fn new(listeners: &[Listener], groups: &[Arc<Group>]) -> Self {
        let protocols = listeners
            .iter()
            .map(|one| (flow_label(name_id(&one.name)), one.protocol.tunnel()));
        let protocols = protocols.collect();
        let listeners = listeners
            .iter()
            .map(|one| (flow_label(name_id(&one.name)), one.name.clone()));
        let target_groups = groups
            .iter()
            .map(|one| (flow_label(one.id), one.name.clone()));
        Self {
            listeners: listeners.collect(),
            protocols,
            target_groups: target_groups.collect(),
        }
    }

    /// The listener's name; its label if the configuration has lost it.
    pub(crate) fn listener(&self, label: u32) -> Cow<'_, str> {
        name(&self.listeners, label)
    }

    /// What a listener's tunnels carry; WebSockets if the configuration has lost it.
    pub(crate) fn protocol(&self, label: u32) -> &'static str {
        self.protocols.get(&label).copied().unwrap_or("websocket")
    }

    /// The target group's name; its label if the configuration has lost it.
    pub(crate) fn target_group(&self, label: u32) -> Cow<'_, str> {
        name(&self.target_groups, label)
    }
}

fn name(names: &HashMap<u32, String>, label: u32) -> Cow<'_, str> {
    names
        .get(&label)
        .map_or_else(|| format!("#{label:08x}").into(), Into::into)
}
