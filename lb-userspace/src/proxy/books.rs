//! The books of one request: what is counted when it is answered, and its line in
//! the access log when its answer has been sent, or the client has left.

use std::sync::Arc;

use http::{StatusCode, request};

use super::Proxy;
use super::body::Passed;
use super::connection::Peer;
use super::fault::Fault;
use super::route::Route;
use super::session::Session;
use super::stickiness::Verdict;
use crate::access::{Head, Open, Record};
use crate::metrics::Origin;
use crate::target::Target;

/// ALB's code for a client that left before it was answered; it never sees it.
const CLIENT_LEFT: u16 = 460;

/// In the order of their numbers in a flow's note; zero is no stickiness.
const VERDICTS: [Verdict; 6] = [
    Verdict::None,
    Verdict::Valid,
    Verdict::Invalid,
    Verdict::Expired,
    Verdict::Down,
    Verdict::Unused,
];

/// An open entry.
#[derive(Debug)]
pub(super) struct Books {
    proxy: Arc<Proxy>,
    /// `None`: no target was to have it.
    route: Option<Arc<Route>>,
    origin: Origin,
    wants_upgrade: bool,
    answered: bool,
    upgraded: bool,
    passed: Passed,
    line: Open,
}

impl Books {
    /// Of a request whose head has been read.
    pub(super) fn open(proxy: &Arc<Proxy>, peer: &Peer, head: &request::Parts) -> Self {
        Self::new(proxy, peer, || Some(Head::of(head)))
    }

    /// Of an answer given without a request, which is whole with that.
    pub(super) fn refuse(
        proxy: &Arc<Proxy>,
        peer: &Peer,
        reason: &'static str,
        status: StatusCode,
    ) {
        let mut books = Self::new(proxy, peer, || None);
        books.by_balancer();
        books.line.note(|record| record.fault = Some(reason));
        books.answer(status);
        books.done();
    }

    fn new(proxy: &Arc<Proxy>, peer: &Peer, head: impl FnOnce() -> Option<Head>) -> Self {
        let line = proxy.shared.access.open(|| Record {
            head: head(),
            ..Record::new("http", &proxy.listener.name, peer.caller.said.client)
        });
        Self {
            proxy: proxy.clone(),
            route: None,
            origin: Origin::Target,
            wants_upgrade: false,
            answered: false,
            upgraded: false,
            passed: Passed::default(),
            line,
        }
    }

    /// The rules have chosen a target group.
    pub(super) fn routed(&mut self, route: &Arc<Route>) {
        self.line
            .note(|record| record.target_group = Some(route.group.name.clone()));
        self.route = Some(route.clone());
    }

    /// The client asks for a WebSocket.
    pub(super) fn wants_upgrade(&mut self) {
        self.wants_upgrade = true;
    }

    /// The group that was to have the request; empty where none was.
    pub(super) fn target_group(&self) -> &str {
        let route = self.route.as_ref();
        route.map_or("", |route| &route.group.name)
    }

    /// A target has been chosen.
    pub(super) fn chosen(&mut self, target: &Target) {
        self.line
            .note(|record| record.target = Some(target.address));
    }

    /// The balancer answers in a target's place.
    pub(super) fn by_balancer(&mut self) {
        self.origin = Origin::Balancer;
    }

    /// And this is why.
    pub(super) fn faulted(&mut self, fault: Fault) {
        self.by_balancer();
        self.line.note(|record| record.fault = Some(fault.reason()));
    }

    /// Whether the request has become a WebSocket.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Who answers.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// What became of the client's wish to come back.
    pub(super) fn count_verdict(&mut self, session: &Session<'_>) {
        if let Some(route) = &self.route {
            verdict(&self.proxy, route, session, &mut self.line);
        }
    }

    /// The head of the answer goes out.
    pub(super) fn answer(&mut self, status: StatusCode) {
        self.count(status);
        let origin = self.origin;
        self.line.note(|record| {
            record.status = Some(status.as_u16());
            record.origin = Some(origin.as_str());
        });
    }

    /// The request has a body, perhaps; the line says how much of it has gone to the
    /// target when it is written, which may be after the head of the answer has come.
    pub(super) fn uploading(&mut self, passed: Passed) {
        self.passed = passed;
    }

    /// So many bytes more of the answer's body are on their way.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.line.note(|record| record.bytes_out += bytes as u64);
    }

    /// The target has broken off its answer.
    pub(super) fn broken(&mut self) {
        self.line.note(|record| record.cause = "target_broke");
    }

    /// It was cut off because nothing moved.
    pub(super) fn cut(&mut self, cause: &'static str) {
        self.line.note(|record| record.cause = cause);
    }

    /// The answer is whole.
    pub(super) fn done(&mut self) {
        self.line.note(|record| record.cause = "done");
    }

    /// The request has become a WebSocket, whose line is written at its end.
    pub(super) fn upgraded(&mut self, status: StatusCode) -> Open {
        self.upgraded = true;
        self.line.note(|record| {
            record.protocol = "websocket";
            record.status = Some(status.as_u16());
            record.origin = Some(Origin::Target.as_str());
        });
        self.line.take()
    }

    fn count(&mut self, status: StatusCode) {
        self.answered = true;
        let group = self.target_group();
        if self.wants_upgrade {
            let listener = &self.proxy.listener.name;
            let metrics = &self.proxy.shared.metrics;
            metrics.upgrade_requested(listener, group);
        }
        self.proxy.shared.metrics.request(
            &self.proxy.listener.name,
            group,
            status,
            self.origin,
            self.line.elapsed(),
        );
    }
}

impl Drop for Books {
    /// Unanswered, the client has left: everything about its request is dropped then.
    fn drop(&mut self) {
        if let (false, Ok(status)) = (self.answered, StatusCode::from_u16(CLIENT_LEFT)) {
            self.by_balancer();
            self.answer(status);
        }
        let bytes = self.passed.bytes();
        self.line.note(|record| record.bytes_in = bytes);
    }
}

/// Counts what became of the client's wish to come back, and notes it for the log.
pub(super) fn verdict(proxy: &Proxy, route: &Route, session: &Session<'_>, line: &mut Open) {
    let Some(verdict) = session.verdict().map(Verdict::as_str) else {
        return;
    };
    proxy.shared.metrics.verdict(&route.group.name, verdict);
    line.note(|record| record.verdict = Some(verdict));
}

/// A verdict as a flow's note.
pub(super) fn note(session: &Session<'_>) -> u8 {
    let known = |verdict| VERDICTS.iter().position(|known| *known == verdict);
    let place = session.verdict().and_then(known);
    place
        .and_then(|place| u8::try_from(place + 1).ok())
        .unwrap_or(0)
}

/// The verdict that a flow's note tells.
pub(crate) fn noted_verdict(note: u8) -> Option<&'static str> {
    let place = usize::from(note).checked_sub(1)?;
    VERDICTS.get(place).map(|verdict| verdict.as_str())
}
