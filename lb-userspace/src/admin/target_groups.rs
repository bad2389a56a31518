//! `/v1/target-groups`: targets, their state, and who is connected to them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Admin;
use super::tally::{Tally, by_path};
use crate::target::{Group, NameStatus, Target};

impl Admin {
    pub(super) fn target_groups(&self) -> Value {
        let tallies = self.tallies();
        let groups: Vec<Value> = self
            .registry
            .groups()
            .iter()
            .map(|group| self.group_json(group, &tallies))
            .collect();
        json!({"target_groups": groups})
    }

    pub(super) fn target_group(&self, group: &Group) -> Value {
        self.group_json(group, &self.tallies())
    }

    fn group_json(&self, group: &Group, tallies: &[Tally]) -> Value {
        let of_group: Vec<&Tally> = tallies
            .iter()
            .filter(|one| one.target_group == group.name)
            .collect();
        let names = self.registry.names(group).into_iter();
        let names: Vec<Value> = names.map(|name| name_json(&name)).collect();
        let targets: Vec<Value> = group
            .snapshot()
            .targets()
            .iter()
            .map(|target| target_json(target, &of_group))
            .collect();
        json!({
            "name": group.name,
            "protocol": "http",
            "algorithm": group.config.algorithm.as_str(),
            "fails_open": group.snapshot().fails_open(),
            "names": names,
            "targets": targets,
        })
    }
}

fn name_json(name: &NameStatus) -> Value {
    json!({
        "name": name.name,
        "targets": name.targets,
        "has_answered": name.has_answered,
        "failure": name.failure,
    })
}

/// One target of a group, as the group's list shows it.
pub(super) fn target(group: &Group, address: SocketAddr, tallies: &[Tally]) -> Option<Value> {
    let snapshot = group.snapshot();
    let target = snapshot
        .targets()
        .iter()
        .find(|target| target.address == address)?;
    let of_group: Vec<&Tally> = tallies
        .iter()
        .filter(|one| one.target_group == group.name)
        .collect();
    Some(target_json(target, &of_group))
}

fn target_json(target: &Target, tallies: &[&Tally]) -> Value {
    let of_target = tallies
        .iter()
        .copied()
        .filter(|one| one.target == target.address);
    json!({
        "address": target.label,
        "state": target.state().as_str(),
        "reason": target.reason(),
        "weight": target.weight,
        "connections": by_path(of_target),
        "drain_until": target.drain.map(|drain| drain.until),
    })
}
