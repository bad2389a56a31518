//! `GET /v1/connections`: what the daemon relays and what the kernel carries, in one
//! list, page by page.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::query::{Cursor, Filter};
use super::{Admin, Names};
use crate::connections::Relayed;
use crate::dataplane::{FlowInfo, Path, Place};
use crate::id::{flow_label, name_id};
use crate::names;

/// A connection, whatever carries it.
#[derive(Debug)]
struct Row {
    id: u64,
    listener: String,
    target_group: String,
    target: SocketAddr,
    client: SocketAddr,
    protocol: &'static str,
    path: Path,
    reason: Option<&'static str>,
    closing: bool,
    age: f64,
    idle: f64,
    bytes: (u64, u64),
    packets: (u64, u64),
}

impl Admin {
    /// One page of those that the filter lets pass. A connection that is handed off
    /// between two pages may be on both.
    pub(super) fn page(&self, filter: &Filter) -> io::Result<Value> {
        let (mut rows, from) = self.relayed_rows(filter);
        let mut next = from.map(Cursor::Relayed);
        if next.is_none() && self.dataplane.path() != Path::Userspace {
            let place = match filter.from {
                Cursor::Kernel(place) => place,
                Cursor::Relayed(_) => Place::default(),
            };
            next = self.kernel_rows(filter, place, &mut rows)?;
        }
        let connections: Vec<Value> = rows.iter().map(Row::to_json).collect();
        let next_cursor = next.map(|next| next.to_string());
        Ok(json!({"connections": connections, "next_cursor": next_cursor}))
    }

    /// The relayed ones of a page, and the last id of those if there are more.
    fn relayed_rows(&self, filter: &Filter) -> (Vec<Row>, Option<u64>) {
        let Cursor::Relayed(after) = filter.from else {
            return (Vec::new(), None);
        };
        let mut relayed = self.connections.relayed();
        relayed.retain(|one| one.id > after && filter.selection.has_relayed(one));
        relayed.sort_unstable_by_key(|one| one.id);
        let more = relayed.len() > filter.limit;
        relayed.truncate(filter.limit);
        let last = relayed.last().map(|one| one.id).filter(|_| more);
        (
            relayed
                .iter()
                .map(|one| Row::relayed(one, &self.names))
                .collect(),
            last,
        )
    }

    /// Fills a page with flows, each only once: one that was relayed when the page was
    /// begun may be in the table by now.
    fn kernel_rows(
        &self,
        filter: &Filter,
        from: Place,
        rows: &mut Vec<Row>,
    ) -> io::Result<Option<Cursor>> {
        let room = filter.limit - rows.len();
        if !filter.selection.has_path(self.dataplane.path()) {
            return Ok(None);
        }
        let listed: std::collections::HashSet<u64> = rows.iter().map(|row| row.id).collect();
        let (flows, next) = self.dataplane.page(from, room, |flow| {
            !listed.contains(&flow.id) && filter.selection.has_flow(flow)
        })?;
        rows.extend(flows.iter().map(|flow| Row::flow(flow, &self.names)));
        Ok(next.map(Cursor::Kernel))
    }
}

impl Row {
    fn flow(flow: &FlowInfo, known: &Names) -> Self {
        Self {
            id: flow.id,
            listener: known.listener(flow.owner.listener).into_owned(),
            target_group: known.target_group(flow.owner.target_group).into_owned(),
            target: flow.target,
            client: flow.client,
            protocol: known.protocol(flow.owner.listener),
            path: flow.path,
            reason: None,
            closing: flow.closing,
            age: flow.age.as_secs_f64(),
            idle: flow.idle.as_secs_f64(),
            bytes: (flow.bytes_in, flow.bytes_out),
            packets: (flow.packets_in, flow.packets_out),
        }
    }

    fn relayed(one: &Relayed, known: &Names) -> Self {
        Self {
            id: one.id,
            listener: one.listener.clone(),
            target_group: one.target_group.clone(),
            target: one.target,
            client: one.client,
            protocol: known.protocol(flow_label(name_id(&one.listener))),
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

    fn to_json(&self) -> Value {
        json!({
            // As text: JavaScript cannot hold 64 bits in a number.
            "id": format!("{:016x}", self.id),
            "listener": self.listener,
            "target_group": self.target_group,
            "target": self.target.to_string(),
            "client": self.client.to_string(),
            "protocol": self.protocol,
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
