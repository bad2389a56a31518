//! One request's way to a target: the sticky one if it can be had, else a turn.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::HeaderValue;
use http::response;

use super::cookie;
use super::route::Route;
use super::seal::{Nonce, Payload};
use super::stickiness::{Stickiness, Verdict};
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
    verdict: Verdict,
    sticky: Option<u64>,
    source: IpAddr,
    tried: Vec<u64>,
}

impl<'a> Session<'a> {
    /// Reads the cookies and hides ours from whatever target is chosen.
    pub(super) fn open(route: &'a Route, headers: &mut HeaderMap, source: IpAddr) -> Self {
        let targets = route.group.snapshot();
        let (mut verdict, mut sticky) = (Verdict::None, None);
        if let Some(stickiness) = &route.stickiness {
            (verdict, sticky) = stickiness.read(headers, route.group.id, now());
            stickiness.hide(headers);
        }
        if let Some(lost) = sticky.and_then(|id| route.lost(&targets, id)) {
            (verdict, sticky) = (lost, None);
        }
        Self {
            route,
            targets,
            verdict,
            sticky,
            source,
            tried: Vec::new(),
        }
    }

    /// The target to try next; `None` when there is no other.
    pub(super) fn target(&self) -> Option<Arc<Target>> {
        if self.tried.len() >= ATTEMPTS {
            return None;
        }
        let target = match self.sticky {
            Some(id) => self.targets.find(id),
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
        if self.sticky.take().is_some() {
            self.verdict = Verdict::Down;
        }
    }

    /// What became of the request's cookie; `None` where there is no stickiness.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.route.stickiness.as_ref().map(|_| self.verdict)
    }

    /// Puts the cookie on a response of `target` that starts a session.
    pub(super) fn mark(&self, target: &Target, response: &mut response::Parts) {
        if self.sticky.is_some() {
            return;
        }
        if let Some(cookie) = self.cookie(target) {
            cookie::set(&mut response.headers, cookie);
        }
    }

    fn cookie(&self, target: &Target) -> Option<HeaderValue> {
        let stickiness = self.route.stickiness.as_ref()?;
        let payload = Payload {
            target: target.id,
            group: self.route.group.id,
            created: now(),
        };
        stickiness.issue(&payload, &nonce()?)
    }
}

impl Route {
    /// Why the holder of a cookie cannot stay with its target; `None` if it can.
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
