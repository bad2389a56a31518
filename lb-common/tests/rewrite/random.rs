//! Random packets, options and flows.

use std::net::{IpAddr, SocketAddr};

use lb_common::flow::{Address, BLANK_SACK, Flow, Shifts, Tuple};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::frame::Plain;
use crate::piece::{Piece, encode};

/// A flow, with the addresses of its legs in readable form.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) client: SocketAddr,
    /// The balancer's end of the client leg.
    pub(crate) near: SocketAddr,
    /// The balancer's end of the target leg.
    pub(crate) far: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) shifts: Shifts,
}

impl Pair {
    pub(crate) fn client_leg(&self) -> Tuple {
        tuple(self.client, self.near)
    }

    pub(crate) fn flow(&self) -> Flow {
        let target = tuple(self.target, self.far);
        Flow {
            target,
            shifts: self.shifts,
            ..Flow::default()
        }
    }
}

/// A flow and a segment of its client, both of one family.
pub(crate) fn flow_and_segment() -> impl Strategy<Value = (Pair, Plain, Vec<Piece>)> {
    (pair(), numbers(), options(), vec(any::<u8>(), 0..300)).prop_map(
        |(pair, (ttl, seq, ack, flags, window), pieces, payload)| {
            let plain = Plain {
                from: pair.client,
                to: pair.near,
                ttl,
                seq,
                ack,
                flags,
                window,
                options: encode(&pieces),
                payload,
            };
            (pair, plain, pieces)
        },
    )
}

/// TTL, sequence number, acknowledgment number, flags, window.
fn numbers() -> impl Strategy<Value = (u8, u32, u32, u8, u16)> {
    (2u8.., any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>())
}

fn pair() -> impl Strategy<Value = Pair> {
    let addresses = prop_oneof![
        any::<[[u8; 4]; 4]>().prop_map(|all| all.map(IpAddr::from)),
        any::<[[u8; 16]; 4]>().prop_map(|all| all.map(IpAddr::from)),
    ];
    (addresses, any::<[u16; 4]>(), shifts()).prop_map(|(addresses, ports, shifts)| {
        let [client, near, far, target] =
            [0, 1, 2, 3].map(|i| SocketAddr::new(addresses[i], ports[i]));
        Pair {
            client,
            near,
            far,
            target,
            shifts,
        }
    })
}

fn shifts() -> impl Strategy<Value = Shifts> {
    let scale = || 0u8..=14;
    (
        any::<[u32; 2]>(),
        any::<[u32; 2]>(),
        [scale(), scale()],
        [scale(), scale()],
        any::<bool>(),
    )
        .prop_map(|(seq, stamp, scale_sent, [client, target], blank)| Shifts {
            seq,
            stamp,
            scale_sent,
            scale_announced: [client | if blank { BLANK_SACK } else { 0 }, target],
            ifindex: [0; 2],
        })
}

/// Options in any order that fit a header, filled up to whole words.
fn options() -> impl Strategy<Value = Vec<Piece>> {
    let filling = prop_oneof![Just(None), vec(any::<u8>(), 40).prop_map(Some)];
    (vec(piece(), 0..7), filling).prop_map(|(mut pieces, filling)| {
        while length(&pieces) > 40 {
            pieces.pop();
        }
        let room = length(&pieces).next_multiple_of(4) - length(&pieces);
        match filling {
            Some(behind) if room > 0 => pieces.push(Piece::End(behind[..room - 1].to_vec())),
            Some(_) | None => pieces.extend(std::iter::repeat_n(Piece::Nop, room)),
        }
        pieces
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    let sack = (1usize..=4).prop_flat_map(|blocks| vec(any::<u32>(), blocks * 2));
    let unknown = (2u8.., vec(any::<u8>(), 0..12)).prop_filter("known", |(kind, data)| {
        *kind != 5 && (*kind != 8 || data.len() != 8)
    });
    prop_oneof![
        3 => Just(Piece::Nop),
        3 => any::<[u32; 2]>().prop_map(|[value, echo]| Piece::Stamps(value, echo)),
        2 => sack.prop_map(Piece::Sack),
        1 => unknown.prop_map(|(kind, data)| Piece::Unknown(kind, data)),
    ]
}

fn length(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.bytes().len()).sum()
}

fn tuple(peer: SocketAddr, local: SocketAddr) -> Tuple {
    let address = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => Address::from_octets(ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => Address::from_octets(ip.octets()),
    };
    Tuple {
        peer: address(peer),
        local: address(local),
        peer_port: peer.port().to_be(),
        local_port: local.port().to_be(),
    }
}
