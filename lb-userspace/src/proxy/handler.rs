//! One request, from a parsed head to an answer: the gate, the rules, then the way
//! it takes, and the books.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;
use tracing::debug;

use super::body::Reply;
use super::connection::Peer;
use super::fault::Fault;
use super::route::Route;
use super::rules::Action;
use super::session::Session;
use super::split::Split;
use super::{Proxy, cookie, forward, gate, redirect, upgrade, websocket};
use crate::metrics::{Origin, Upgrade};

impl Proxy {
    /// Answers a request; faults become answers here and nowhere else.
    pub(super) async fn handle(&self, peer: &Peer, request: Request<Incoming>) -> Response<Reply> {
        let framing = peer.pace.head_read();
        let mut entry = Entry::new();
        let (head, body) = request.into_parts();
        let answer = if framing.is_ambiguous() {
            Err(Fault::Malformed(
                "both Content-Length and Transfer-Encoding",
            ))
        } else {
            self.dispatch(peer, head, body, &mut entry).await
        };
        let response = answer.unwrap_or_else(|fault| {
            entry.origin = Origin::Balancer;
            self.answer(peer, fault)
        });
        self.count(response.status(), &entry);
        let answering = peer.pace.answering();
        response.map(|body| body.holding(answering))
    }

    /// Books an answer that hyper made of a head it could not parse.
    pub(super) fn count_unparsed(&self, status: StatusCode) {
        self.shared
            .metrics
            .rejected(&self.listener.name, "malformed");
        self.count(status, &Entry::refused());
    }

    /// Books an answer given without a request.
    pub(super) fn count_fault(&self, fault: Fault) {
        self.shared
            .metrics
            .rejected(&self.listener.name, fault.reason());
        self.count(fault.status(), &Entry::refused());
    }

    pub(super) fn count_verdict(&self, route: &Route, session: &Session<'_>) {
        if let Some(verdict) = session.verdict() {
            self.shared
                .metrics
                .verdict(&route.group.name, verdict.as_str());
        }
    }

    async fn dispatch(
        &self,
        peer: &Peer,
        mut head: request::Parts,
        body: Incoming,
        entry: &mut Entry,
    ) -> Result<Response<Reply>, Fault> {
        let wanted = websocket::is_wanted(&head.headers);
        if wanted {
            self.shared.metrics.upgrade_requested();
        }
        let result = match gate::check(&mut head) {
            Ok(()) => self.act(peer, head, body, wanted, entry).await,
            Err(fault) => Err(fault),
        };
        if wanted {
            let outcome = outcome(&result, entry.origin);
            self.shared.metrics.upgrade(&self.listener.name, outcome);
        }
        result
    }

    /// Does what the rules say.
    async fn act(
        &self,
        peer: &Peer,
        head: request::Parts,
        body: Incoming,
        wanted: bool,
        entry: &mut Entry,
    ) -> Result<Response<Reply>, Fault> {
        match self.rules.choose(&head, peer.client.ip()) {
            Action::Forward(split) => self.send(peer, split, head, body, wanted, entry).await,
            Action::Redirect(to) => {
                entry.origin = Origin::Balancer;
                redirect::redirect(to, &head, self.listener.protocol, peer.local)
            }
            Action::Fixed(answer) => {
                entry.origin = Origin::Balancer;
                Ok(redirect::fixed(answer))
            }
        }
    }

    async fn send(
        &self,
        peer: &Peer,
        split: &Split,
        mut head: request::Parts,
        body: Incoming,
        wanted: bool,
        entry: &mut Entry,
    ) -> Result<Response<Reply>, Fault> {
        let (route, cookie) = split.choose(&mut head.headers).ok_or(Fault::NoTarget)?;
        entry.route = Some(route.clone());
        let mut response = if wanted {
            let offer = websocket::check_request(&head)?;
            upgrade::upgrade(self, peer, route, head, &offer).await?
        } else {
            forward::forward(self, peer, route, head, body).await?
        };
        if let Some(cookie) = cookie {
            cookie::set(response.headers_mut(), cookie);
        }
        Ok(response)
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

    fn count(&self, status: StatusCode, entry: &Entry) {
        let group = entry.route.as_ref().map_or("", |route| &route.group.name);
        self.shared.metrics.request(
            &self.listener.name,
            group,
            status,
            entry.origin,
            entry.begun.elapsed(),
        );
    }
}

/// What the books are to say of a request.
struct Entry {
    begun: Instant,
    /// `None`: no target was to have it.
    route: Option<Arc<Route>>,
    origin: Origin,
}

impl Entry {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            route: None,
            origin: Origin::Target,
        }
    }

    /// Of an answer given without a request.
    fn refused() -> Self {
        Self {
            origin: Origin::Balancer,
            ..Self::new()
        }
    }
}

fn outcome(result: &Result<Response<Reply>, Fault>, origin: Origin) -> Upgrade {
    match result {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Upgrade::Accepted,
        Ok(_) if origin == Origin::Balancer => Upgrade::Rejected,
        Ok(_) => Upgrade::RefusedByTarget,
        Err(fault) if fault.is_clients() => Upgrade::Rejected,
        Err(_) => Upgrade::Failed,
    }
}
