//! Fresh connections to targets: those that may become flows, and those for requests.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Proxy;
use super::proxy_header::{self, Ends};
use super::route::Route;
use super::wire::{self, Wire};
use crate::config::{Protocol, TargetProtocol};
use crate::dataplane::{self, Candidate, Limits, Refusal};
use crate::id;
use crate::target::Target;

/// Who has connected to us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// By the PROXY protocol's header where one is believed, else as `socket`.
    pub(super) said: Ends,
    /// The socket's own ends.
    pub(super) socket: Ends,
    /// What the socket has negotiated.
    pub(super) limits: Limits,
}

/// Opens a connection that may become a flow, if the client's could be its other
/// leg; `note` is told again when the flow ends.
pub(super) async fn dial(
    proxy: &Proxy,
    caller: &Caller,
    route: &Route,
    target: &Target,
    note: u8,
) -> io::Result<(Wire, Candidate)> {
    let connect_timeout = proxy.shared.limits.connect_timeout;
    let dataplane = &proxy.shared.dataplane;
    // Counted as a tunnel once it is one.
    drop(proxy.shared.make_way());
    let protocol = &route.group.config.protocol;
    let refusal = match (proxy.listener.protocol, protocol) {
        (Protocol::Https | Protocol::Tls, _) | (_, TargetProtocol::Https(_)) => Some(Refusal::Tls),
        // What is HTTP/2 to the target is framed here.
        (Protocol::Http, TargetProtocol::H2c) => Some(Refusal::Http2),
        (Protocol::Http | Protocol::Tcp | Protocol::TlsPassthrough, _) => None,
    };
    let (mut stream, candidate) = match refusal {
        None => {
            let request = dataplane::Request {
                owner: dataplane::Owner {
                    listener: id::flow_label(proxy.id),
                    target_group: id::flow_label(route.group.id),
                },
                note,
                client: caller.socket.client,
                local: caller.socket.local,
                limits: caller.limits,
                connect_timeout,
            };
            dataplane.connect(target.address, request).await?
        }
        Some(refusal) => {
            let relay = dataplane.relay(target.address, connect_timeout, refusal);
            relay.await?
        }
    };
    // What is sent is small and waits for nothing.
    let _ = stream.set_nodelay(true);
    tell(&mut stream, caller, route).await?;
    let stream = wire::to_target(stream, protocol, connect_timeout).await?;
    Ok((stream, candidate))
}

/// Opens a connection for requests, and tells the target who the client is if it wants
/// to know.
pub(super) async fn dial_http(
    proxy: &Proxy,
    caller: &Caller,
    route: &Route,
    target: &Target,
) -> io::Result<Wire> {
    let limit = proxy.shared.limits.connect_timeout;
    let connect = TcpStream::connect(target.address);
    let mut stream = tokio::time::timeout(limit, connect).await??;
    let _ = stream.set_nodelay(true);
    tell(&mut stream, caller, route).await?;
    wire::to_target(stream, &route.group.config.protocol, limit).await
}

async fn tell(stream: &mut TcpStream, caller: &Caller, route: &Route) -> io::Result<()> {
    let version = route.group.config.proxy_protocol;
    let header = proxy_header::write(version, caller.said.client, caller.said.local);
    stream.write_all(&header).await
}
