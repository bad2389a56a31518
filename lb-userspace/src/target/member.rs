//! One target, as a snapshot holds it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::health::{Health, Judge};
use super::load::Load;
use super::warmth::Warmth;
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
    pub(crate) drain: Option<Drain>,
    pub(crate) health: Health,
    pub(super) warmth: Warmth,
    /// The same in every snapshot from registration until it leaves.
    pub(super) vitals: Arc<Vitals>,
}

/// What is counted of a target while it is registered.
#[derive(Debug)]
pub(super) struct Vitals {
    judge: Mutex<Judge>,
    load: Arc<Load>,
    /// The judge has counted a failed connect since the last that worked.
    connects_fail: AtomicBool,
}

/// On its way out: nobody new is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Not checked with success yet: gets requests while no other is healthy.
    Initial,
    /// Gets requests.
    Healthy,
    /// Gets requests only while all are unhealthy.
    Unhealthy,
    /// Gets nobody new; its sessions may end.
    Draining,
    /// Gets nobody new, because its weight is 0.
    Unused,
}

impl State {
    /// The word of the admin API, of metrics and of the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
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
            health: Health::Initial,
            warmth: Warmth::Warm,
            vitals: Arc::new(Vitals {
                judge: Mutex::new(Judge::new()),
                load: Arc::default(),
                connects_fail: AtomicBool::new(false),
            }),
        }
    }

    pub(crate) fn state(&self) -> State {
        match (self.drain, self.weight, &self.health) {
            (Some(_), _, _) => State::Draining,
            (None, 0, _) => State::Unused,
            (None, _, Health::Initial) => State::Initial,
            (None, _, Health::Healthy) => State::Healthy,
            (None, _, Health::Unhealthy(_)) => State::Unhealthy,
        }
    }

    /// Why it is in that state, in words.
    pub(crate) fn reason(&self) -> Cow<'static, str> {
        match (self.drain, self.weight, &self.health) {
            (Some(Drain { leave: true, .. }), _, _) => "deregistered".into(),
            (Some(Drain { leave: false, .. }), _, _) => "drained by the admin API".into(),
            (None, 0, _) => "its weight is 0".into(),
            (None, _, Health::Initial) => "no health check has succeeded yet".into(),
            (None, _, Health::Healthy) => "health checks succeed".into(),
            (None, _, Health::Unhealthy(failure)) => failure.to_string().into(),
        }
    }

    /// Whether `other` is this target, not left and registered again in between.
    pub(super) fn is_same_registration(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.vitals, &other.vitals)
    }

    /// What counts the results of its checks and connects.
    pub(super) fn judge(&self) -> MutexGuard<'_, Judge> {
        let judge = &self.vitals.judge;
        judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has to do.
    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.vitals.load
    }

    /// A connect for a client worked.
    pub(crate) fn connected(&self) {
        // Read first: written at every request, it would travel between processors.
        if self.vitals.connects_fail.load(Ordering::Relaxed) {
            self.vitals.connects_fail.store(false, Ordering::Relaxed);
            self.judge().connected();
        }
    }

    pub(super) fn note_failed_connect(&self) {
        self.vitals.connects_fail.store(true, Ordering::Relaxed);
    }
}
