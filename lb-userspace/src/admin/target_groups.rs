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
        group_json(group, &self.registry.names(group), &of_group)
    }
}

fn group_json(group: &Group, names: &[NameStatus], tallies: &[&Tally]) -> Value {
    let snapshot = group.snapshot();
    let targets = snapshot.targets().iter();
    let targets: Vec<Value> = targets.map(|one| target_json(one, tallies)).collect();
    let names: Vec<Value> = names.iter().map(name_json).collect();
    json!({
        "name": group.name,
        "protocol": group.config.protocol.as_str(),
        "algorithm": group.config.algorithm.as_str(),
        "fails_open": snapshot.fails_open(),
        "names": names,
        "targets": targets,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TargetGroup, TargetProtocol};
    use crate::events::Events;
    use crate::tls::{self, Trust};

    #[test]
    fn a_group_says_what_its_targets_speak() {
        let tls = tls::Client::new(Trust::Anybody, None);
        for (protocol, word) in [
            (TargetProtocol::Http, "http"),
            (TargetProtocol::Https(tls.expect("a client")), "https"),
            (TargetProtocol::H2c, "h2c"),
        ] {
            let config = TargetGroup {
                protocol,
                ..TargetGroup::with_defaults("chat")
            };
            let group = Group::new(&config, Events::default());
            assert_eq!(group_json(&group, &[], &[])["protocol"], word);
        }
    }
}
