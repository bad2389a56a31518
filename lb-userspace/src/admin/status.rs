//! `/v1/status`: what runs, what is attached and why, and how full it is.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Admin;
use crate::names;

impl Admin {
    pub(super) fn status(&self) -> Value {
        let (entries, capacity) = self.dataplane.occupancy();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "ready": self.ready.load(Ordering::Acquire),
            "fastpath": {
                "interfaces": self.interfaces(),
                "off": self.dataplane.off_reason(),
                "flows": entries,
                "capacity": capacity,
            },
            "relayed": self.connections.count(),
            "listeners": self.listener_list(),
        })
    }

    fn interfaces(&self) -> Vec<Value> {
        self.dataplane
            .status()
            .into_iter()
            .map(|one| json!({"name": one.name, "mode": names::path(one.path), "reason": one.reason}))
            .collect()
    }

    fn listener_list(&self) -> Vec<Value> {
        self.listeners
            .iter()
            .map(|one| {
                let binds: Vec<String> = one.binds.iter().map(ToString::to_string).collect();
                json!({
                    "name": one.name,
                    "bind": binds,
                    "protocol": one.protocol.as_str(),
                    "target_group": one.target_group(),
                    "action": one.action.as_str(),
                    "rules": one.rules.len(),
                })
            })
            .collect()
    }
}
