//! Listeners that do not look inside: TCP, and TLS with or without its end here.
//! A connection becomes a tunnel as soon as its target is known.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, request};
use tokio::net::TcpStream;
use tracing::debug;

use super::Proxy;
use super::books;
use super::connection::{Arrived, uncover};
use super::dial;
use super::fault::Fault;
use super::forward::connect_fault;
use super::last_seal::LastSeal;
use super::route::Route;
use super::rules::Action;
use super::session::Session;
use super::tunnel::{Opening, Tunnel};
use super::wire::Wire;
use crate::access::{Open, Record};
use crate::config::Protocol;
use crate::connections::Identity;
use crate::dataplane::{Candidate, Refusal};
use crate::target::{InFlight, Target};
use crate::tls::hello;

/// Forwards a connection to its end.
pub(super) async fn serve(proxy: &Arc<Proxy>, arrived: Arrived) {
    let Arrived {
        mut stream,
        caller,
        admitted,
    } = arrived;
    let mut line = proxy.shared.access.open(|| Record {
        cause: "refused",
        ..Record::new(
            proxy.listener.protocol.tunnel(),
            &proxy.listener.name,
            caller.said.client,
        )
    });
    let asked = match ask(proxy, &mut stream).await {
        Ok(asked) => asked,
        Err(reason) => {
            proxy.shared.metrics.rejected(&proxy.listener.name, reason);
            line.note(|record| record.fault = Some(reason));
            return;
        }
    };
    let mut stream = match &proxy.tls {
        None => Wire::Tcp(stream),
        Some(tls) => match Box::pin(uncover(proxy, tls, stream, caller.said.client)).await {
            Ok(stream) => stream,
            Err(reason) => return line.note(|record| record.fault = Some(reason)),
        },
    };
    match open(proxy, &caller, &asked, &mut line).await {
        Ok(tunnel) => tunnel.begin(stream, asked.first, admitted),
        Err(fault) => {
            debug!(
                listener = proxy.listener.name,
                reason = fault.reason(),
                "refused"
            );
            line.note(|record| record.fault = Some(fault.reason()));
            // An end in order would look like an answer.
            stream.reset_when_dropped();
        }
    }
}

/// What a client has asked for.
struct Asked {
    /// As the rules see it: a request that says no more than a host.
    head: request::Parts,
    /// What has been read of the connection.
    first: Bytes,
}

/// Looks only where the name is in the clear and meant for the target. The error
/// is the label of `rejected_total`.
async fn ask(proxy: &Proxy, stream: &mut TcpStream) -> Result<Asked, &'static str> {
    let (mut head, ()) = Request::new(()).into_parts();
    let mut first = Bytes::new();
    if proxy.listener.protocol == Protocol::TlsPassthrough {
        let limit = proxy.shared.limits.header_timeout;
        let hello = match tokio::time::timeout(limit, hello::read(stream)).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return Err("tls_handshake");
            }
            Ok(Err(_)) => return Err("client_left"),
            Err(_) => return Err(Fault::ClientSlow.reason()),
        };
        let name = hello.name.and_then(|name| HeaderValue::try_from(name).ok());
        if let Some(name) = name {
            head.headers.insert(HOST, name);
        }
        first = hello.bytes.into();
    }
    Ok(Asked { head, first })
}

/// Opens the way to a target; the line goes with the tunnel then.
async fn open(
    proxy: &Proxy,
    caller: &dial::Caller,
    asked: &Asked,
    line: &mut Open,
) -> Result<Tunnel, Fault> {
    let action = proxy.rules.choose(&asked.head, caller.said.client.ip());
    let Action::Forward(split) = action else {
        // The configuration has made sure that there is no other.
        return Err(Fault::NoTarget);
    };
    // Without the name that was asked for: there are no cookies, nor anything to hide.
    let (mut head, ()) = Request::new(()).into_parts();
    let (route, _) = split.choose(&mut head.headers).ok_or(Fault::NoTarget)?;
    line.note(|record| record.target_group = Some(route.group.name.clone()));
    let mut session = Session::open(
        route,
        &mut head,
        caller.said.client.ip(),
        &LastSeal::default(),
    );
    let connected = connect(proxy, caller, route, &mut session, line).await;
    books::verdict(proxy, route, &session, line);
    let (target, in_flight, stream, candidate) = connected?;
    let listed = proxy.shared.connections.enter(Identity {
        id: candidate.id(),
        listener: proxy.listener.name.clone(),
        target_group: route.group.name.clone(),
        target: target.address,
        client: caller.socket.client,
    });
    if proxy.tls.is_some() {
        listed.set_reason(Refusal::Tls);
    }
    Ok(Tunnel {
        target: stream,
        to_client: Bytes::new(),
        opening: Opening::Silent,
        candidate,
        listed,
        in_flight,
        line: line.take(),
        idle_timeout: proxy.listener.websocket_idle_timeout,
        metrics: proxy.shared.metrics.tunnel(),
        drain: proxy.shared.drain.clone(),
    })
}

/// Dials targets until one accepts.
async fn connect(
    proxy: &Proxy,
    caller: &dial::Caller,
    route: &Route,
    session: &mut Session<'_>,
    line: &mut Open,
) -> Result<(Arc<Target>, InFlight, Wire, Candidate), Fault> {
    let mut fault = Fault::NoTarget;
    let patience = proxy.shared.limits.connect_timeout;
    while let Some((target, in_flight)) = session.target(patience).await {
        line.note(|record| record.target = Some(target.address));
        let note = books::note(session);
        match dial::dial(proxy, caller, route, &target, note).await {
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
