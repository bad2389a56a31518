//! An ordinary request, to a target and back, over a pool of kept connections.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use http::header::{Entry, HOST, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy;

use super::Proxy;
use super::body::{Parcel, Reply, Sender, Upload};
use super::books::Books;
use super::connection::Peer;
use super::dial;
use super::fault::Fault;
use super::gate;
use super::h2c;
use super::headers;
use super::route::Route;
use super::session::Session;
use crate::config::{ProxyProtocol, TargetProtocol};
use crate::target::Target;

/// Why one target did not answer.
enum Failure {
    /// It heard nothing of the request, so another may.
    Connect(Option<io::ErrorKind>),
    /// It may have; no other must get the request.
    Final(Fault),
}

/// Forwards a request that has passed the gate.
pub(super) async fn forward(
    proxy: &Proxy,
    peer: &Peer,
    route: &Route,
    mut head: request::Parts,
    body: Upload,
    books: &mut Books,
) -> Result<Response<Reply>, Fault> {
    let mut session = Session::open(route, &mut head, peer.caller.said.client.ip());
    h2c::note_trailers(&mut head);
    headers::strip_request(&mut head.headers);
    headers::forwarded(
        &mut head.headers,
        proxy.listener.x_forwarded_for,
        proxy.listener.protocol,
        peer.caller.said,
    )?;
    headers::certified(&mut head.headers, peer.subject.as_ref());
    head.extensions.remove::<OnUpgrade>();
    let patience = proxy.shared.limits.connect_timeout;
    let sender = Sender::new(body);
    let mut fault = Fault::NoTarget;
    while let Some(parcel) = sender.parcel()
        && let Some((target, in_flight)) = session.target(patience).await
    {
        books.chosen(&target);
        let result = attempt(proxy, peer, route, &target, &head, (parcel, &sender)).await;
        books.received(sender.progress().bytes);
        match result {
            Ok(response) => {
                target.connected();
                books.count_verdict(&session);
                let response = finish(response, &session, &target);
                return Ok(response.map(|body| body.holding(in_flight)));
            }
            Err(Failure::Connect(error)) => {
                fault = connect_fault(error);
                session.unreachable(&target, error);
            }
            Err(Failure::Final(this)) => {
                fault = this;
                break;
            }
        }
    }
    books.count_verdict(&session);
    Err(session.fault(fault))
}

async fn attempt(
    proxy: &Proxy,
    peer: &Peer,
    route: &Route,
    target: &Target,
    head: &request::Parts,
    (parcel, sender): (Parcel, &Sender),
) -> Result<Response<Reply>, Failure> {
    let answer = async {
        let config = &route.group.config;
        match (config.proxy_protocol, &config.protocol) {
            (_, TargetProtocol::H2c) => shared(proxy, target, head, parcel).await,
            (ProxyProtocol::Off, TargetProtocol::Http | TargetProtocol::Https(_)) => {
                pooled(proxy, route, target, head, parcel).await
            }
            // Others must not use a connection that begins with this client's name.
            (ProxyProtocol::V1 | ProxyProtocol::V2, _) => {
                alone(proxy, peer, route, target, head, parcel).await
            }
        }
    };
    let response = in_time(answer, sender, proxy.shared.limits.response_timeout)
        .await
        .map_err(Failure::Final)??;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Final(Fault::TargetBadUpgrade));
    }
    gate::check_answer(response.headers()).map_err(Failure::Final)?;
    Ok(response)
}

/// Over a kept connection, or a new one that is kept.
async fn pooled(
    proxy: &Proxy,
    route: &Route,
    target: &Target,
    head: &request::Parts,
    parcel: Parcel,
) -> Result<Response<Reply>, Failure> {
    let request = request_for(target, head, parcel).map_err(Failure::Final)?;
    let response = proxy
        .shared
        .targets
        .request(&route.group.name, request)
        .await;
    Ok(response
        .map_err(|error| classify(&error))?
        .map(Reply::target))
}

/// As a stream of a connection with others.
async fn shared(
    proxy: &Proxy,
    target: &Target,
    head: &request::Parts,
    parcel: Parcel,
) -> Result<Response<Reply>, Failure> {
    let request = h2c::arrange(head, target, parcel)
        .map_err(|_| Failure::Final(Fault::Malformed("the path is malformed")))?;
    let limit = proxy.shared.limits.connect_timeout;
    let answer = proxy
        .shared
        .targets
        .h2c
        .request(target.address, request, limit);
    let (response, streams) = answer.await.map_err(|failure| match failure {
        h2c::Failure::Connect(error) => Failure::Connect(Some(error.kind())),
        h2c::Failure::Broken(error) => Failure::Final(answer_fault(Some(&error))),
    })?;
    Ok(response.map(|body| Reply::target(body).holding(streams)))
}

/// Over a connection of its own.
async fn alone(
    proxy: &Proxy,
    peer: &Peer,
    route: &Route,
    target: &Target,
    head: &request::Parts,
    parcel: Parcel,
) -> Result<Response<Reply>, Failure> {
    let stream = dial::dial_once(proxy, &peer.caller, route, target)
        .await
        .map_err(|error| Failure::Connect(Some(error.kind())))?;
    let mut head = head.clone();
    head.version = Version::HTTP_11;
    if let Entry::Vacant(host) = head.headers.entry(HOST)
        && let Ok(value) = HeaderValue::from_str(&target.label)
    {
        host.insert(value);
    }
    let request = Request::from_parts(head, parcel);
    let (response, leg) = dial::ask(proxy, stream, request)
        .await
        .map_err(|error| Failure::Final(answer_fault(Some(&error))))?;
    Ok(response.map(|body| Reply::target(body).holding(leg)))
}

fn request_for(
    target: &Target,
    head: &request::Parts,
    parcel: Parcel,
) -> Result<Request<Parcel>, Fault> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = head.clone();
    head.version = Version::HTTP_11;
    head.uri = Uri::builder()
        .scheme("http")
        .authority(target.label.as_str())
        .path_and_query(path)
        .build()
        .map_err(|_| Fault::Malformed("the path is malformed"))?;
    Ok(Request::from_parts(head, parcel))
}

fn finish(response: Response<Reply>, session: &Session<'_>, target: &Target) -> Response<Reply> {
    let (mut head, body) = response.into_parts();
    head.version = Version::HTTP_11;
    head.extensions.remove::<OnUpgrade>();
    headers::strip_hop_by_hop(&mut head.headers);
    session.mark(target, &mut head);
    let ear = session.ear(target, &head);
    Response::from_parts(head, body.heard_by(ear))
}

/// Waits for the head of the answer. The clock starts anew with every piece of
/// the request's body, so that a long upload is not a timeout.
async fn in_time<T>(
    answer: impl Future<Output = T>,
    sender: &Sender,
    limit: Duration,
) -> Result<T, Fault> {
    let begun = Instant::now();
    tokio::pin!(answer);
    loop {
        let deadline = sender.progress().moved.max(begun) + limit;
        tokio::select! {
            answer = &mut answer => return Ok(answer),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        let progress = sender.progress();
        if progress.moved.max(begun) + limit <= Instant::now() {
            return Err(if progress.starved {
                Fault::ClientSlow
            } else {
                Fault::ResponseTimeout
            });
        }
    }
}

fn classify(error: &legacy::Error) -> Failure {
    if error.is_connect() {
        return Failure::Connect(source::<io::Error>(error).map(io::Error::kind));
    }
    Failure::Final(answer_fault(source::<hyper::Error>(error)))
}

fn answer_fault(error: Option<&hyper::Error>) -> Fault {
    match error {
        // The client's body broke off or was malformed.
        Some(error) if error.is_user() => Fault::Malformed("the body is malformed"),
        Some(error) if error.is_parse() => Fault::TargetMalformed,
        _ => Fault::TargetUnreachable,
    }
}

/// What a failed connect is to the client.
pub(super) fn connect_fault(error: Option<io::ErrorKind>) -> Fault {
    match error {
        Some(io::ErrorKind::TimedOut) => Fault::ConnectTimeout,
        Some(io::ErrorKind::InvalidData) => Fault::TargetTls,
        _ => Fault::TargetUnreachable,
    }
}

/// The first error of type `E` in the chain of causes.
fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
