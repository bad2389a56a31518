//! One request's way to a target: the sticky one if it can be had, else a turn.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Response, request};
use tokio::time::Instant;

use super::fault::Fault;
use super::last_seal::LastSeal;
use super::route::Route;
use super::seal::Nonce;
use super::stickiness::{Answered, Asked, Claim, Ear, Stickiness, Verdict};
use crate::balance;
use crate::target::{Ended, InFlight, Snapshot, State, Target};

/// Targets dialled for one request; each may take the whole connect timeout.
const ATTEMPTS: usize = 3;
/// Who waits for room looks again after this also without having been called.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The choice of a target for one request.
#[derive(Debug)]
pub(super) struct Session<'a> {
    route: &'a Route,
    /// The targets as they were when the request came.
    targets: Arc<Snapshot>,
    claim: Claim,
    source: IpAddr,
    /// When the request came, in seconds since 1970.
    came: u64,
    tried: Vec<u64>,
    /// There was no room in time.
    is_full: bool,
}

/// What a look at the targets has found.
enum Turn {
    Target(Arc<Target>, InFlight),
    /// Room at a target is to be waited for.
    Full,
    Nobody,
}

impl Turn {
    fn of(target: &Arc<Target>) -> Self {
        match target.load().begin() {
            Some(in_flight) => Self::Target(target.clone(), in_flight),
            None => Self::Full,
        }
    }
}

impl<'a> Session<'a> {
    /// Reads whose the request is, and hides from whatever target is chosen what is ours.
    pub(super) fn open(
        route: &'a Route,
        head: &mut request::Parts,
        source: IpAddr,
        last_seal: &LastSeal,
    ) -> Self {
        let targets = route.group.snapshot();
        let came = now();
        let mut claim = Claim::default();
        if let Some(stickiness) = &route.stickiness {
            claim = stickiness.read(Asked {
                head,
                source,
                last_seal,
                route,
                targets: &targets,
                now: came,
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
            came,
            tried: Vec::new(),
            is_full: false,
        }
    }

    /// The target to try next, with room for this request; `None` when there is no other,
    /// or none with room within `patience`.
    pub(super) async fn target(&mut self, patience: Duration) -> Option<(Arc<Target>, InFlight)> {
        match self.turn() {
            Turn::Target(target, in_flight) => Some((target, in_flight)),
            Turn::Nobody => None,
            Turn::Full => Box::pin(self.wait(patience)).await,
        }
    }

    /// Why there was no target, if it was for want of room; else `fault`.
    pub(super) fn fault(&self, fault: Fault) -> Fault {
        match self.is_full {
            true => Fault::TargetsFull,
            false => fault,
        }
    }

    fn turn(&self) -> Turn {
        if self.tried.len() >= ATTEMPTS {
            return Turn::Nobody;
        }
        if let Some(id) = self.claim.target {
            return match self.targets.find(id) {
                Some(target) => Turn::of(target),
                None => Turn::Nobody,
            };
        }
        let stickiness = self.route.stickiness.as_ref();
        let target = match stickiness.is_some_and(Stickiness::is_by_source) {
            true => self.targets.stand_in(self.source, &self.tried),
            false => self.targets.balance(self.request(), &self.tried),
        };
        match target {
            Some(target) => Turn::of(target),
            None if self.targets.has_untried(&self.tried) => Turn::Full,
            None => Turn::Nobody,
        }
    }

    /// Until there is room, for the one target that the session belongs to or for any.
    async fn wait(&mut self, patience: Duration) -> Option<(Arc<Target>, InFlight)> {
        let route = self.route;
        let queue = route.group.queue();
        let Some(_place) = queue.enter() else {
            queue.ended(Ended::Refused);
            self.is_full = true;
            return None;
        };
        let deadline = Instant::now() + patience;
        loop {
            let own = self
                .claim
                .target
                .and_then(|id| self.targets.find(id))
                .cloned();
            let waiting = match &own {
                Some(target) => target.load().own(),
                None => queue.anyone(),
            };
            let _joined = waiting.join();
            let called = waiting.called();
            tokio::pin!(called);
            // From here on no call is missed.
            called.as_mut().enable();
            match self.turn() {
                Turn::Target(target, in_flight) => {
                    queue.ended(Ended::Admitted);
                    return Some((target, in_flight));
                }
                Turn::Nobody => return None,
                Turn::Full if Instant::now() >= deadline => {
                    queue.ended(Ended::TimedOut);
                    self.is_full = true;
                    return None;
                }
                Turn::Full => {}
            }
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            // Who called may have called somebody else, who has left.
            let _ = tokio::time::timeout_at(look_again, called).await;
            self.renew();
        }
    }

    /// Targets have come and gone meanwhile.
    fn renew(&mut self) {
        self.targets = self.route.group.snapshot();
        let lost = |id| self.route.lost(&self.targets, id);
        if let Some(lost) = self.claim.target.and_then(lost) {
            (self.claim.verdict, self.claim.target) = (lost, None);
        }
    }

    fn request(&self) -> balance::Request {
        balance::Request {
            source: self.source,
            random: random(),
            now: Instant::now(),
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
    pub(super) fn mark<T>(&self, target: &Target, response: &mut Response<T>) {
        if let Some(stickiness) = &self.route.stickiness {
            stickiness.mark(&self.claim, self.answered(target), response);
        }
    }

    /// What listens to the body of an answer by `target`, if the session may be named
    /// in there.
    pub(super) fn ear<T>(&self, target: &Target, response: &Response<T>) -> Option<Ear> {
        let stickiness = self.route.stickiness.as_ref()?;
        stickiness.ear(&self.claim, self.answered(target), response)
    }

    fn answered(&self, target: &Target) -> Answered<'_> {
        Answered {
            route: self.route,
            target: target.id,
            now: self.came,
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

/// Randomness for one choice, by which nobody wins anything: a system call for each would
/// take longer than the choice.
fn random() -> u64 {
    /// Begins anywhere, so that balancers do not choose alike.
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(getrandom::u64().unwrap_or_default()));
    balance::mix(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Randomness for one seal; `None` if the system has none.
pub(super) fn nonce() -> Option<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).ok()?;
    Some(nonce)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "pick_costs.rs"]
mod pick_costs;
