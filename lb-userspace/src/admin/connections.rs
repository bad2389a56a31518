//! `/v1/connections`: what the daemon relays and what the kernel carries, in one
//! list.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::query::Filter;
use super::{Admin, Names};
use crate::connections::Relayed;
use crate::dataplane::{FlowInfo, Path};
use crate::names;

/// A connection, whatever carries it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    id: u64,
    pub(super) listener: String,
    pub(super) target_group: String,
    pub(super) target: SocketAddr,
    client: SocketAddr,
    pub(super) path: Path,
    reason: Option<&'static str>,
    closing: bool,
    age: f64,
    idle: f64,
    bytes: (u64, u64),
    packets: (u64, u64),
}

impl Admin {
    /// All connections, each once. Relayed ones are read first: one that is
    /// handed off in between is then in both lists, and the kernel's wins.
    pub(super) fn rows(&self) -> io::Result<Vec<Row>> {
        let relayed = self.connections.relayed();
        let flows: Vec<Row> = self
            .dataplane
            .flows()?
            .iter()
            .map(|flow| Row::flow(flow, &self.names))
            .collect();
        let in_kernel: std::collections::HashSet<u64> = flows.iter().map(|row| row.id).collect();
        let relayed = relayed.iter().filter(|one| !in_kernel.contains(&one.id));
        let mut rows: Vec<Row> = relayed.map(|one| Row::relayed(one)).collect();
        rows.extend(flows);
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    /// One page of those that the filter lets pass.
    pub(super) fn page(&self, filter: &Filter) -> io::Result<Value> {
        let mut rows = self.rows()?;
        rows.retain(|row| row.passes(filter));
        let more = rows.len() > filter.limit;
        rows.truncate(filter.limit);
        let next_cursor = rows
            .last()
            .filter(|_| more)
            .map(|row| format!("{:016x}", row.id));
        let connections: Vec<Value> = rows.iter().map(Row::to_json).collect();
        Ok(json!({"connections": connections, "next_cursor": next_cursor}))
    }
}

/// Connections of something, by what carries them.
pub(super) fn by_path<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::from([("xdp", 0), ("tc", 0), ("userspace", 0)]);
    for row in rows {
        *counts.entry(names::path(row.path)).or_default() += 1;
    }
    counts
}

impl Row {
    fn flow(flow: &FlowInfo, known: &Names) -> Self {
        Self {
            id: flow.id,
            listener: known.listener(flow.owner.listener).into_owned(),
            target_group: known.target_group(flow.owner.target_group).into_owned(),
            target: flow.target,
            client: flow.client,
            path: flow.path,
            reason: None,
            closing: flow.closing,
            age: flow.age.as_secs_f64(),
            idle: flow.idle.as_secs_f64(),
            bytes: (flow.bytes_in, flow.bytes_out),
            packets: (flow.packets_in, flow.packets_out),
        }
    }

    fn relayed(one: &Relayed) -> Self {
        Self {
            id: one.id,
            listener: one.listener.clone(),
            target_group: one.target_group.clone(),
            target: one.target,
            client: one.client,
            path: Path::Userspace,
            reason: Some(names::refusal(one.reason())),
            closing: one.closing(),
            age: one.opened.elapsed().as_secs_f64(),
            idle: one.idle().as_secs_f64(),
            bytes: one.bytes(),
            // The daemon sees bytes, not packets.
            packets: (0, 0),
        }
    }

    fn passes(&self, filter: &Filter) -> bool {
        filter.path.is_none_or(|path| path == self.path)
            && filter
                .target
                .is_none_or(|target| target.matches(self.target))
            && filter
                .client
                .is_none_or(|client| client.matches(self.client))
            && filter.after.is_none_or(|after| self.id > after)
    }

    fn to_json(&self) -> Value {
        json!({
            // As text: JavaScript cannot hold 64 bits in a number.
            "id": format!("{:016x}", self.id),
            "listener": self.listener,
            "target_group": self.target_group,
            "target": self.target.to_string(),
            "client": self.client.to_string(),
            "protocol": "websocket",
            "path": names::path(self.path),
            "reason": self.reason,
            "state": if self.closing { "closing" } else { "established" },
            "age_seconds": self.age,
            "idle_seconds": self.idle,
            "bytes_in": self.bytes.0,
            "bytes_out": self.bytes.1,
            "packets_in": self.packets.0,
            "packets_out": self.packets.1,
        })
    }
}
