//! `/v1/target-groups`: targets, their state, and who is connected to them.

use serde_json::{Value, json};

use super::Admin;
use super::connections::{Row, by_path};
use crate::target::{Group, Target};

impl Admin {
    pub(super) fn target_groups(&self) -> Value {
        let rows = self.rows().unwrap_or_default();
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|group| group_json(group, &rows))
            .collect();
        json!({"target_groups": groups})
    }

    pub(super) fn target_group(&self, group: &Group) -> Value {
        group_json(group, &self.rows().unwrap_or_default())
    }
}

fn group_json(group: &Group, rows: &[Row]) -> Value {
    let of_group: Vec<&Row> = rows
        .iter()
        .filter(|row| row.target_group == group.name)
        .collect();
    let targets: Vec<Value> = group
        .targets()
        .iter()
        .map(|target| target_json(target, &of_group))
        .collect();
    json!({
        "name": group.name,
        "protocol": "http",
        "algorithm": "round_robin",
        "targets": targets,
    })
}

fn target_json(target: &Target, rows: &[&Row]) -> Value {
    let of_target = rows
        .iter()
        .copied()
        .filter(|row| row.target == target.address);
    let (state, reason) = match target.weight {
        0 => ("unused", "its weight is 0"),
        _ => ("healthy", "targets are not checked"),
    };
    json!({
        "address": target.label,
        "state": state,
        "reason": reason,
        "weight": target.weight,
        "connections": by_path(of_target),
    })
}
