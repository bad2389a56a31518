//! One request, from a parsed head to an answer: the gate, then the way it takes,
//! and the books.

use std::time::Instant;

use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;
use tracing::debug;

use super::body::Reply;
use super::connection::Peer;
use super::fault::Fault;
use super::session::Session;
use super::{Proxy, forward, gate, upgrade, websocket};
use crate::metrics::{Origin, Upgrade};

impl Proxy {
    /// Answers a request; faults become answers here and nowhere else.
    pub(super) async fn handle(&self, peer: &Peer, request: Request<Incoming>) -> Response<Reply> {
        let framing = peer.pace.head_read();
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let answer = if framing.is_ambiguous() {
            Err(Fault::Malformed(
                "both Content-Length and Transfer-Encoding",
            ))
        } else {
            self.dispatch(peer, head, body).await
        };
        let (response, origin) = match answer {
            Ok(response) => (response, Origin::Target),
            Err(fault) => (self.answer(peer, fault), Origin::Balancer),
        };
        self.count(response.status(), origin, begun);
        let answering = peer.pace.answering();
        response.map(|body| body.holding(answering))
    }

    /// Books an answer that hyper made of a head it could not parse.
    pub(super) fn count_unparsed(&self, status: StatusCode) {
        self.shared
            .metrics
            .rejected(&self.listener.name, "malformed");
        self.count(status, Origin::Balancer, Instant::now());
    }

    /// Books an answer given without a request.
    pub(super) fn count_fault(&self, fault: Fault) {
        self.shared
            .metrics
            .rejected(&self.listener.name, fault.reason());
        self.count(fault.status(), Origin::Balancer, Instant::now());
    }

    pub(super) fn count_verdict(&self, session: &Session<'_>) {
        if let Some(verdict) = session.verdict() {
            self.shared
                .metrics
                .verdict(&self.route.group.name, verdict.as_str());
        }
    }

    async fn dispatch(
        &self,
        peer: &Peer,
        mut head: request::Parts,
        body: Incoming,
    ) -> Result<Response<Reply>, Fault> {
        let wanted = websocket::is_wanted(&head.headers);
        if wanted {
            self.shared.metrics.upgrade_requested();
        }
        let result = match gate::check(&mut head) {
            Ok(()) if wanted => match websocket::check_request(&head) {
                Ok(offer) => upgrade::upgrade(self, peer, head, &offer).await,
                Err(fault) => Err(fault),
            },
            Ok(()) => forward::forward(self, peer, head, body).await,
            Err(fault) => Err(fault),
        };
        if wanted {
            self.shared
                .metrics
                .upgrade(&self.listener.name, outcome(&result));
        }
        result
    }

    fn answer(&self, peer: &Peer, fault: Fault) -> Response<Reply> {
        if fault.is_clients() {
            self.shared
                .metrics
                .rejected(&self.listener.name, fault.reason());
        }
        debug!(
            listener = self.listener.name, client = %peer.client,
            reason = fault.reason(), "answered by the balancer"
        );
        fault.response()
    }

    fn count(&self, status: StatusCode, origin: Origin, begun: Instant) {
        let (listener, group) = (&self.listener.name, &self.route.group.name);
        self.shared
            .metrics
            .request(listener, group, status, origin, begun.elapsed());
    }
}

fn outcome(result: &Result<Response<Reply>, Fault>) -> Upgrade {
    match result {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Upgrade::Accepted,
        Ok(_) => Upgrade::RefusedByTarget,
        Err(fault) if fault.is_clients() => Upgrade::Rejected,
        Err(_) => Upgrade::Failed,
    }
}
