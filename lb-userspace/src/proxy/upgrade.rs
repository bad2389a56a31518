//! A WebSocket's opening handshake: a fresh connection to a target, one request
//! on it, and a tunnel only after its 101 has been verified.
//!
//! What the client sends behind its request stays in hyper's buffer: it reaches
//! the target through the tunnel, or is read as the next request.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode, Version, request, response};
use hyper::upgrade::OnUpgrade;

use super::Proxy;
use super::body::{Parcel, Reply};
use super::books::{self, Books};
use super::connection::Peer;
use super::dial;
use super::fault::Fault;
use super::forward::{answer_fault, connect_fault, take};
use super::gate;
use super::h2c_websocket::{self, Answer};
use super::headers;
use super::http2;
use super::leg::Leg;
use super::pool::Lent;
use super::route::Route;
use super::session::Session;
use super::tunnel::{Opening, Tunnel};
use super::websocket::{self, Offer};
use super::wire::Wire;
use crate::config::TargetProtocol;
use crate::connections::{Identity, Listed};
use crate::dataplane::{Candidate, Refusal};
use crate::target::{InFlight, Target};

/// A request that wants to become a WebSocket, and has passed the gate.
pub(super) async fn upgrade(
    proxy: &Proxy,
    peer: &Peer,
    route: &Route,
    head: &mut request::Parts,
    offer: &Offer,
    books: &mut Books,
) -> Result<Response<Reply>, Fault> {
    let mut session = Session::open(route, head, peer.caller.said.client.ip(), &peer.last_seal);
    headers::strip_request(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    websocket::mark_upgrade(&mut head.headers);
    headers::forwarded(
        &mut head.headers,
        proxy.listener.x_forwarded_for,
        proxy.listener.protocol,
        &peer.told,
    )?;
    head.extensions.remove::<OnUpgrade>();
    let version = std::mem::replace(&mut head.version, Version::HTTP_11);
    let connected = connect(proxy, peer, route, &mut session, books).await;
    books.count_verdict(&session);
    let (target, in_flight, stream, candidate) = connected?;
    let (mut head, stream, to_client) =
        match ask(proxy, route, stream, take(head), &target, offer).await? {
            Asked::Switched(head, stream, to_client) => (head, stream, to_client),
            Asked::Refused(response) => {
                let mut response = refused(response, &session, &target);
                let body = response.body_mut();
                // Dropped behind the leg: the candidate gives back the port it uses.
                body.hold(candidate);
                body.count(in_flight);
                return Ok(response);
            }
        };
    head.version = Version::HTTP_11;
    head.extensions.remove::<OnUpgrade>();
    headers::strip_hop_by_hop(&mut head.headers);
    websocket::mark_opened(&mut head, version);
    let listed = list(proxy, peer, route, &target, candidate.id());
    let relayed = match version {
        Version::HTTP_2 => Some(Refusal::Http2),
        _ => candidate.refusal(),
    };
    if let Some(reason) = relayed {
        listed.set_reason(reason);
    }
    peer.lay(Tunnel {
        target: stream,
        to_client,
        opening: Opening::Answered,
        candidate,
        listed,
        in_flight,
        line: books.upgraded(head.status),
        idle_timeout: proxy.listener.websocket_idle_timeout,
        metrics: proxy.shared.metrics.tunnel(),
        drain: proxy.shared.drain.clone(),
    });
    let mut response = Response::from_parts(head, Reply::empty());
    session.mark(&target, &mut response);
    Ok(response)
}

/// Dials targets until one accepts.
async fn connect(
    proxy: &Proxy,
    peer: &Peer,
    route: &Route,
    session: &mut Session<'_>,
    books: &mut Books,
) -> Result<(Arc<Target>, InFlight, Wire, Candidate), Fault> {
    let mut fault = Fault::NoTarget;
    let patience = proxy.shared.limits.connect_timeout;
    while let Some((target, in_flight)) = session.target(patience).await {
        books.chosen(&target);
        let note = books::note(session);
        match dial::dial(proxy, &peer.caller, route, &target, note).await {
            Ok((stream, candidate)) => {
                target.connected();
                return Ok((target, in_flight, stream, candidate));
            }
            Err(error) => {
                fault = connect_fault(Some(error.kind()));
                session.unreachable(&target, Some(error.kind()));
            }
        }
    }
    Err(session.fault(fault))
}

/// What a target has made of the handshake.
enum Asked {
    /// A verified 101, the stream behind it, and what has been read of that.
    Switched(response::Parts, Wire, Bytes),
    /// An ordinary answer, and no tunnel.
    Refused(Response<Reply>),
}

/// Sends the request and waits for the head of the answer.
async fn ask(
    proxy: &Proxy,
    route: &Route,
    stream: Wire,
    head: request::Parts,
    target: &Target,
    offer: &Offer,
) -> Result<Asked, Fault> {
    let asked = async {
        match route.group.config.protocol {
            TargetProtocol::Http | TargetProtocol::Https(_) => {
                ask_http1(proxy, stream, head, offer).await
            }
            TargetProtocol::H2c => ask_http2(stream, &head, target, offer).await,
        }
    };
    let asked = tokio::time::timeout(proxy.shared.limits.response_timeout, asked);
    asked.await.map_err(|_| Fault::ResponseTimeout)?
}

async fn ask_http1(
    proxy: &Proxy,
    stream: Wire,
    head: request::Parts,
    offer: &Offer,
) -> Result<Asked, Fault> {
    let request = Request::from_parts(head, Parcel::empty());
    let leg = Leg::new(stream, &proxy.shared.limits).await;
    let mut leg = leg.map_err(|error| answer_fault(&error))?;
    let answer = leg.ask(request).await;
    let response = answer.map_err(|error| answer_fault(error.error()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        gate::check_answer(response.headers())?;
        let lent = Lent { leg, home: None };
        let response = response.map(|body| Reply::target(body, Some(lent)));
        return Ok(Asked::Refused(response));
    }
    let (head, _) = response.into_parts();
    websocket::check_response(offer, &head)?;
    let parts = leg.finish().await.ok_or(Fault::TargetUnreachable)?;
    Ok(Asked::Switched(head, parts.io.into_inner(), parts.read_buf))
}

async fn ask_http2(
    stream: Wire,
    head: &request::Parts,
    target: &Target,
    offer: &Offer,
) -> Result<Asked, Fault> {
    match h2c_websocket::ask(stream, head, target).await? {
        Answer::Opened(mut head, socket) => {
            websocket::check_success(offer, &mut head)?;
            Ok(Asked::Switched(head, Wire::Http2(socket), Bytes::new()))
        }
        Answer::Refused(response) => {
            let (head, body) = response.into_parts();
            let body = http2::Upload::of_target(body, &head.headers);
            let response = Response::from_parts(head, Reply::stream(body));
            Ok(Asked::Refused(response))
        }
    }
}

/// The target said no, in HTTP: an ordinary answer, and no tunnel.
fn refused(
    mut response: Response<Reply>,
    session: &Session<'_>,
    target: &Target,
) -> Response<Reply> {
    *response.version_mut() = Version::HTTP_11;
    let nominated = headers::strip_hop_by_hop(response.headers_mut());
    response.body_mut().leave_out(nominated);
    session.mark(target, &mut response);
    response
}

fn list(proxy: &Proxy, peer: &Peer, route: &Route, target: &Target, id: u64) -> Listed {
    proxy.shared.connections.enter(Identity {
        id,
        listener: proxy.listener.name.clone(),
        target_group: route.group.name.clone(),
        target: target.address,
        client: peer.caller.socket.client,
    })
}
