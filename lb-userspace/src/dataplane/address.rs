//! Between socket addresses and the flow table's tuples.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use lb_common::door::Place;
use lb_common::flow::{Address, Family, FlowKey, Tuple};

/// The tuple of a leg between the balancer's `local` and the far end's `peer`.
pub(super) fn tuple(local: SocketAddr, peer: SocketAddr) -> Tuple {
    Tuple {
        peer: octets(peer.ip()),
        local: octets(local.ip()),
        peer_port: peer.port().to_be(),
        local_port: local.port().to_be(),
    }
}

/// The key of a leg.
pub(super) fn key(local: SocketAddr, peer: SocketAddr) -> FlowKey {
    FlowKey::new(tuple(local, peer), family(peer))
}

/// Where a listener is bound.
pub(super) fn place(bound: SocketAddr) -> Place {
    let address = match bound.ip().is_unspecified() {
        true => Place::ANYWHERE,
        false => octets(bound.ip()),
    };
    Place::new(address, bound.port().to_be(), family(bound))
}

/// The key of the target leg of a flow whose client leg has the key `client`;
/// both are of one family.
pub(super) fn target_key(client: &FlowKey, target: &Tuple) -> FlowKey {
    FlowKey {
        tuple: *target,
        ..*client
    }
}

/// The far end's address.
pub(super) fn peer(tuple: &Tuple) -> SocketAddr {
    address(tuple.peer, tuple.peer_port)
}

/// The balancer's address.
pub(super) fn local(tuple: &Tuple) -> SocketAddr {
    address(tuple.local, tuple.local_port)
}

/// An IPv4 address on an IPv6 socket is IPv4 on the wire.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The source address that the routing table gives toward `to`.
pub(super) fn source(to: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => [0, 0, 0, 0].into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket sends nothing, it only asks for the route. The
    // port means nothing but must not be zero.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn family(address: SocketAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

/// As the program's maps keep it.
pub(crate) fn octets(ip: IpAddr) -> Address {
    Address::from_octets(match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    })
}

fn address(ip: Address, port: u16) -> SocketAddr {
    let ip = IpAddr::V6(Ipv6Addr::from(ip.octets())).to_canonical();
    SocketAddr::new(ip, u16::from_be(port))
}
