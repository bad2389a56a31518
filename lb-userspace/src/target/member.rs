//! One target, as a snapshot holds it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id;

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Hash of group and address: what the cookie says.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    /// The address as a label value and for the log.
    pub(crate) label: String,
    pub(crate) weight: u32,
    pub(crate) drain: Option<Drain>,
}

/// On its way out: nobody new is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// When what is left of its sessions ends, in seconds since 1970.
    pub(crate) until: u64,
    /// Whether it leaves the group then, or stays in it, draining.
    pub(crate) leave: bool,
}

/// ALB's states of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Gets requests.
    Healthy,
    /// Gets nobody new; its sessions may end.
    Draining,
    /// Gets nobody new, because its weight is 0.
    Unused,
}

impl State {
    /// The word of the admin API, of metrics and of the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unused => "unused",
        }
    }
}

impl Target {
    pub(super) fn new(group: &str, address: SocketAddr, weight: u32) -> Self {
        Self {
            id: id::target_id(group, address),
            address,
            label: address.to_string(),
            weight,
            drain: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        match (self.drain, self.weight) {
            (Some(_), _) => State::Draining,
            (None, 0) => State::Unused,
            (None, _) => State::Healthy,
        }
    }

    /// Why it is in that state, in words.
    pub(crate) fn reason(&self) -> &'static str {
        match (self.drain, self.weight) {
            (Some(Drain { leave: true, .. }), _) => "deregistered",
            (Some(Drain { leave: false, .. }), _) => "drained by the admin API",
            (None, 0) => "its weight is 0",
            (None, _) => "targets are not checked",
        }
    }
}
