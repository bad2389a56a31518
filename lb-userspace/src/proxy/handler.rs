//! One request, from a parsed head to an answer: the gate, the rules, then the way
//! it takes, and the books.

use std::sync::Arc;

use http::{Response, Version, request};
use tracing::debug;

use super::body::{Reply, Upload};
use super::books::Books;
use super::connection::Peer;
use super::fault::Fault;
use super::rules::Action;
use super::split::Split;
use super::{Proxy, cookie, forward, gate, redirect, upgrade, websocket};
use crate::metrics::{Origin, Upgrade};

impl Proxy {
    /// Answers a request that has been read well or not; faults become answers here
    /// and nowhere else.
    pub(super) async fn handle(
        self: &Arc<Self>,
        peer: &Peer,
        (mut head, body): (request::Parts, Upload),
        read: Result<(), Fault>,
    ) -> Response<Reply> {
        let mut books = Books::open(self, peer, &head);
        let answer = match read {
            Ok(()) => self.dispatch(peer, &mut head, body, &mut books).await,
            Err(fault) => Err(fault),
        };
        let mut response = answer.unwrap_or_else(|fault| {
            books.faulted(fault);
            self.answer(peer, fault)
        });
        books.answer(response.status());
        response.body_mut().book(books);
        response
    }

    /// Books an answer given without a request.
    pub(super) fn count_fault(self: &Arc<Self>, peer: &Peer, fault: Fault) {
        let reason = fault.reason();
        self.shared.metrics.rejected(&self.listener.name, reason);
        Books::refuse(self, peer, reason, fault.status());
    }

    async fn dispatch(
        &self,
        peer: &Peer,
        head: &mut request::Parts,
        body: Upload,
        books: &mut Books,
    ) -> Result<Response<Reply>, Fault> {
        let wanted = websocket::is_wanted(&head.headers);
        if wanted {
            books.wants_upgrade();
        }
        let version = head.version;
        let mut result = match gate::check(head) {
            Ok(()) => self.act(peer, head, body, wanted, books).await,
            Err(fault) => Err(fault),
        };
        if wanted {
            if version == Version::HTTP_2 {
                result = result.and_then(|response| no_false_opening(response, books));
            }
            let outcome = outcome(&result, books);
            let (listener, group) = (&self.listener.name, books.target_group());
            self.shared.metrics.upgrade(listener, group, outcome);
        }
        result
    }

    /// Does what the rules say.
    async fn act(
        &self,
        peer: &Peer,
        head: &mut request::Parts,
        body: Upload,
        wanted: bool,
        books: &mut Books,
    ) -> Result<Response<Reply>, Fault> {
        match self.rules.choose(head, peer.caller.said.client.ip()) {
            Action::Forward(split) => self.send(peer, split, head, body, wanted, books).await,
            Action::Redirect(to) => {
                books.by_balancer();
                redirect::redirect(to, head, self.listener.protocol, peer.caller.said.local)
            }
            Action::Fixed(answer) => {
                books.by_balancer();
                Ok(redirect::fixed(answer))
            }
        }
    }

    async fn send(
        &self,
        peer: &Peer,
        split: &Split,
        head: &mut request::Parts,
        body: Upload,
        wanted: bool,
        books: &mut Books,
    ) -> Result<Response<Reply>, Fault> {
        let (route, cookie) = split.choose(&mut head.headers).ok_or(Fault::NoTarget)?;
        books.routed(route);
        let mut response = if wanted {
            let offer = websocket::check_request(head)?;
            // Boxed: other requests should not make room for it, and be moved with it.
            Box::pin(upgrade::upgrade(self, peer, route, head, &offer, books)).await?
        } else {
            forward::forward(self, peer, route, head, body, books).await?
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
            listener = self.listener.name, client = %peer.caller.said.client,
            reason = fault.reason(), "answered by the balancer"
        );
        fault.response(&self.listener.error_pages)
    }
}

/// Over HTTP/2 any success opens a WebSocket to the client: an ordinary answer must
/// not look like one.
fn no_false_opening(response: Response<Reply>, books: &Books) -> Result<Response<Reply>, Fault> {
    match books.origin() {
        _ if books.is_upgraded() || !response.status().is_success() => Ok(response),
        Origin::Target => Err(Fault::TargetBadUpgrade),
        Origin::Balancer => Err(Fault::NotImplemented("there is no WebSocket here")),
    }
}

fn outcome(result: &Result<Response<Reply>, Fault>, books: &Books) -> Upgrade {
    match result {
        Ok(_) if books.is_upgraded() => Upgrade::Accepted,
        Ok(_) if books.origin() == Origin::Balancer => Upgrade::Rejected,
        Ok(_) => Upgrade::RefusedByTarget,
        Err(fault) if fault.is_clients() => Upgrade::Rejected,
        Err(_) => Upgrade::Failed,
    }
}
