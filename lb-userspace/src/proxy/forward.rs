//! An ordinary request, to a target and back, over a pool of kept connections.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{Entry, HOST, HeaderValue};
use http::{Request, Response, StatusCode, Version, request};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use super::Proxy;
use super::body::{Parcel, Progress, Reply, Sender, Upload};
use super::books::Books;
use super::connection::Peer;
use super::dial;
use super::fault::Fault;
use super::gate;
use super::h2c;
use super::headers;
use super::leg::Leg;
use super::pool::{Idle, Lent, To};
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
    head: &mut request::Parts,
    body: Upload,
    books: &mut Books,
) -> Result<Response<Reply>, Fault> {
    let mut session = Session::open(route, head, peer.caller.said.client.ip(), &peer.last_seal);
    h2c::note_trailers(head);
    let nominated = headers::strip_request(&mut head.headers);
    headers::forwarded(
        &mut head.headers,
        proxy.listener.x_forwarded_for,
        proxy.listener.protocol,
        &peer.told,
    )?;
    head.extensions.remove::<OnUpgrade>();
    let patience = proxy.shared.limits.connect_timeout;
    let sender = Sender::new(body, nominated);
    books.uploading(sender.passed());
    let mut fault = Fault::NoTarget;
    while let Some(parcel) = sender.parcel()
        && let Some((target, in_flight)) = session.target(patience).await
    {
        books.chosen(&target);
        let result = attempt(proxy, peer, route, &target, head, (parcel, &sender)).await;
        match result {
            Ok(mut response) => {
                target.connected();
                books.count_verdict(&session);
                finish(&mut response, &session, &target);
                sender.count(in_flight, response.body_mut());
                return Ok(response);
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

/// Takes the head if it returns [`Failure::Final`]; else it is as it was.
async fn attempt(
    proxy: &Proxy,
    peer: &Peer,
    route: &Route,
    target: &Target,
    head: &mut request::Parts,
    (parcel, sender): (Parcel, &Sender),
) -> Result<Response<Reply>, Failure> {
    let answer = async {
        match route.group.config.protocol {
            // Boxed: it takes more room than the common way.
            TargetProtocol::H2c => Box::pin(by_stream(proxy, target, head, parcel)).await,
            TargetProtocol::Http | TargetProtocol::Https(_) => {
                let way = Way {
                    proxy,
                    peer,
                    route,
                    target,
                };
                way.ask(head, parcel, sender).await
            }
        }
    };
    let answer = std::pin::pin!(answer);
    let response = in_time(answer, sender, proxy.shared.limits.response_timeout)
        .await
        .map_err(Failure::Final)??;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Final(Fault::TargetBadUpgrade));
    }
    gate::check_answer(response.headers()).map_err(Failure::Final)?;
    Ok(response)
}

/// As a stream of a connection with others.
async fn by_stream(
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
        h2c::Failure::Broken(error) => Failure::Final(answer_fault(&error)),
    })?;
    let mut response = response.map(|body| Reply::target(body, None));
    response.body_mut().hold(streams);
    Ok(response)
}

/// A request's way to a target by HTTP/1.1.
#[derive(Clone, Copy)]
struct Way<'a> {
    proxy: &'a Proxy,
    peer: &'a Peer,
    route: &'a Route,
    target: &'a Target,
}

impl Way<'_> {
    async fn ask(
        self,
        head: &mut request::Parts,
        mut parcel: Parcel,
        sender: &Sender,
    ) -> Result<Response<Reply>, Failure> {
        let home = self.home();
        let mut repeated = false;
        loop {
            let kept = home.as_ref().filter(|_| !repeated);
            let (mut leg, fresh) = match kept.and_then(|(idle, to)| idle.take(*to)) {
                Some(leg) => (leg, false),
                None => (self.connect().await?, true),
            };
            let may_repeat = !fresh && head.method.is_safe() && parcel.is_end_stream();
            let spare = may_repeat.then(|| head.clone());
            match leg.ask(self.request(head, parcel)).await {
                Ok(response) => {
                    let lent = Lent { leg, home };
                    let idle_timeout = self.proxy.listener.idle_timeout;
                    return Ok(answered(response, lent, sender, idle_timeout).await);
                }
                Err(mut error) => match (error.take_message(), spare) {
                    // It was closed before it took the request; a fresh one was not.
                    (Some(unsent), _) if !fresh => (*head, parcel) = unsent.into_parts(),
                    // Or behind it: whether the target has heard it is not known, and does
                    // not matter (RFC 9110 section 9.2.2).
                    (None, Some(spare)) if has_ended(error.error()) => {
                        (*head, parcel) = (spare, Parcel::empty());
                        repeated = true;
                    }
                    _ => return Err(Failure::Final(answer_fault(error.error()))),
                },
            }
        }
    }

    /// Where the connection is to be kept; `None` if others must not use it because it
    /// begins with this client's name.
    fn home(self) -> Option<(Arc<Idle>, To)> {
        let group = &self.route.group;
        match group.config.proxy_protocol {
            ProxyProtocol::Off => {
                let idle = self.proxy.shared.targets.http1.clone();
                Some((idle, (group.id, self.target.address)))
            }
            ProxyProtocol::V1 | ProxyProtocol::V2 => None,
        }
    }

    async fn connect(self) -> Result<Leg, Failure> {
        let shared = &self.proxy.shared;
        let counted = shared.make_way();
        let stream = dial::dial_http(self.proxy, &self.peer.caller, self.route, self.target);
        let stream = stream
            .await
            .map_err(|error| Failure::Connect(Some(error.kind())))?;
        let leg = Leg::new(stream, &shared.limits).await;
        let mut leg = leg.map_err(|error| Failure::Final(answer_fault(&error)))?;
        leg.count(counted);
        Ok(leg)
    }

    fn request(self, head: &mut request::Parts, parcel: Parcel) -> Request<Parcel> {
        let mut head = take(head);
        head.version = Version::HTTP_11;
        if let Entry::Vacant(host) = head.headers.entry(HOST)
            && let Ok(value) = HeaderValue::from_str(&self.target.label)
        {
            host.insert(value);
        }
        Request::from_parts(head, parcel)
    }
}

/// Takes a head from who has no more use for it.
pub(super) fn take(head: &mut request::Parts) -> request::Parts {
    let (empty, ()) = Request::new(()).into_parts();
    std::mem::replace(head, empty)
}

/// The head of an answer has come.
async fn answered(
    response: Response<Incoming>,
    lent: Lent,
    sender: &Sender,
    idle_timeout: Duration,
) -> Response<Reply> {
    let (head, body) = response.into_parts();
    let mut lent = Some(lent);
    if !sender.is_over()
        && let Some(lent) = lent.take()
    {
        // What is left of the request must not wait until the answer is read.
        lent.go_on(sender.clone(), idle_timeout);
    } else if body.is_end_stream() {
        poll_fn(|cx| Poll::Ready(lent.take().map(|lent| lent.give_back(cx)))).await;
    }
    Response::from_parts(head, Reply::target(body, lent))
}

fn finish(response: &mut Response<Reply>, session: &Session<'_>, target: &Target) {
    *response.version_mut() = Version::HTTP_11;
    response.extensions_mut().remove::<OnUpgrade>();
    let nominated = headers::strip_hop_by_hop(response.headers_mut());
    response.body_mut().leave_out(nominated);
    session.mark(target, response);
    let ear = session.ear(target, response);
    response.body_mut().hear(ear);
}

/// Waits for the head of the answer. The clock starts anew with every piece of
/// the request's body, so that a long upload is not a timeout.
async fn in_time<T>(
    mut answer: Pin<&mut impl Future<Output = T>>,
    sender: &Sender,
    limit: Duration,
) -> Result<T, Fault> {
    let begun = Instant::now();
    let deadline = |progress: Progress| progress.moved.unwrap_or(begun).max(begun) + limit;
    loop {
        tokio::select! {
            answer = answer.as_mut() => return Ok(answer),
            () = tokio::time::sleep_until(deadline(sender.progress()).into()) => {}
        }
        let progress = sender.progress();
        if deadline(progress) <= Instant::now() {
            return Err(if progress.starved {
                Fault::ClientSlow
            } else {
                Fault::ResponseTimeout
            });
        }
    }
}

/// Whether the connection came to an end, or broke.
fn has_ended(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error
            .source()
            .is_some_and(|source| source.is::<io::Error>())
}

/// What a broken exchange is to the client.
pub(super) fn answer_fault(error: &hyper::Error) -> Fault {
    if error.is_user() {
        // The client's body broke off or was malformed.
        Fault::Malformed("the body is malformed")
    } else if error.is_parse() {
        Fault::TargetMalformed
    } else {
        Fault::TargetUnreachable
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
