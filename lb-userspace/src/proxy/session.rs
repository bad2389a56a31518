//! One request's way to a target: the sticky one if it can be had, else a turn.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{request, response};

use super::route::Route;
use super::seal::Nonce;
use super::stickiness::{Answered, Asked, Claim, Ear, Stickiness, Verdict};
use crate::balance;
use crate::target::{Snapshot, State, Target};

/// Targets dialled for one request; each may take the whole connect timeout.
const ATTEMPTS: usize = 3;

/// The choice of a target for one request.
#[derive(Debug)]
pub(super) struct Session<'a> {
    route: &'a Route,
    /// The targets as they were when the request came.
    targets: Arc<Snapshot>,
    claim: Claim,
    source: IpAddr,
    tried: Vec<u64>,
}

impl<'a> Session<'a> {
    /// Reads whose the request is, and hides from whatever target is chosen what is ours.
    pub(super) fn open(route: &'a Route, head: &mut request::Parts, source: IpAddr) -> Self {
        let targets = route.group.snapshot();
        let mut claim = Claim::default();
        if let Some(stickiness) = &route.stickiness {
            claim = stickiness.read(Asked {
                head,
                source,
                route,
                targets: &targets,
                now: now(),
            });
            stickiness.hide(&mut head.headers);
        }
        if let Some(lost) = claim.target.and_then(|id| route.lost(&targets, id)) {
            (claim.verdict, claim.target) = (lost, None);
        }
        Self {
            route,
            targets,
            claim,
            source,
            tried: Vec::new(),
        }
    }

    /// The target to try next; `None` when there is no other.
    pub(super) fn target(&self) -> Option<Arc<Target>> {
        if self.tried.len() >= ATTEMPTS {
            return None;
        }
        let stickiness = self.route.stickiness.as_ref();
        let target = match self.claim.target {
            Some(id) => self.targets.find(id),
            None if stickiness.is_some_and(Stickiness::is_by_source) => {
                self.targets.stand_in(self.source, &self.tried)
            }
            None => self.targets.balance(self.request(), &self.tried),
        };
        target.cloned()
    }

    fn request(&self) -> balance::Request {
        balance::Request {
            source: self.source,
            // Without randomness the choice is only a poor one.
            random: getrandom::u64().unwrap_or_default(),
        }
    }

    /// The connection to `target` failed before a byte was sent.
    pub(super) fn unreachable(&mut self, target: &Target, error: Option<io::ErrorKind>) {
        if let Some(kind) = error {
            self.route.group.connect_failed(target, kind);
        }
        self.tried.push(target.id);
        if self.claim.target.take().is_some() {
            self.claim.verdict = Verdict::Down;
        }
    }

    /// What became of the request's claim; `None` where there is no stickiness.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.route.stickiness.as_ref().map(|_| self.claim.verdict)
    }

    /// Leaves behind what brings the client back to `target`, which has answered.
    pub(super) fn mark(&self, target: &Target, response: &mut response::Parts) {
        if let Some(stickiness) = &self.route.stickiness {
            stickiness.mark(&self.claim, self.answered(target), response);
        }
    }

    /// What listens to the body of an answer by `target`, if the session may be named
    /// in there.
    pub(super) fn ear(&self, target: &Target, response: &response::Parts) -> Option<Ear> {
        let stickiness = self.route.stickiness.as_ref()?;
        stickiness.ear(&self.claim, self.answered(target), response)
    }

    fn answered(&self, target: &Target) -> Answered<'_> {
        Answered {
            route: self.route,
            target: target.id,
            now: now(),
            nonce,
        }
    }
}

impl Route {
    /// Why a session cannot stay with its target; `None` if it can.
    fn lost(&self, targets: &Snapshot, id: u64) -> Option<Verdict> {
        let Some(target) = targets.find(id) else {
            return Some(Verdict::Unused);
        };
        let moves = self
            .stickiness
            .as_ref()
            .is_some_and(Stickiness::moves_while_draining);
        // Past its deadline nobody is kept: they would be ended again.
        let over = target.drain.is_some_and(|drain| drain.until <= now());
        if over || moves && target.state() == State::Draining {
            return Some(Verdict::Unused);
        }
        targets.is_down(target).then_some(Verdict::Down)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Randomness for one seal; `None` if the system has none.
pub(super) fn nonce() -> Option<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).ok()?;
    Some(nonce)
}
