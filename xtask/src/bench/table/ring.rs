//! Flows in a ring: what one sends on is the next one's packet. So a single run of
//! the program, repeated on the packet it has just rewritten, meets as many flows
//! as the TTL lets it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lb_common::flow::{Address, Family, Flow, FlowKey, Half, Shifts, Tuple};
use lb_common::word;
use nix::time::{ClockId, clock_gettime};

use super::packets::Packets;

/// From one flow of a ring to the next: coprime to every size, and far from the order
/// in which entries were allocated.
const STRIDE: u32 = 7919;
/// Where every packet toward a target goes.
pub(super) const HUB_PORT: u16 = 80;
/// Within the daemon's source ports.
const PORTS: u32 = 20_000;
const FIRST_PORT: u32 = 10_000;

/// Where both streams of every flow stand, so that a packet that came along the ring
/// fits each.
pub(super) const CLIENT_AT: u32 = 1_000;
pub(super) const TARGET_AT: u32 = 5_000;
/// Bytes of a chat message.
pub(super) const PAYLOAD: u32 = 64;

/// A ring of so many flows, and one more that is a ring by itself.
pub(super) struct Ring {
    size: u32,
    hub: Ipv4Addr,
    ifindex: [u32; 2],
    now: u64,
}

impl Ring {
    pub(super) fn new(size: u32, packets: &Packets) -> Self {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        Self {
            size,
            hub: packets.hub,
            ifindex: packets.ifindex,
            // Else the daemon would end them for idling.
            now: now.unwrap_or_default().as_nanos() as u64,
        }
    }

    /// All flows with their keys.
    pub(super) fn flows(&self) -> impl Iterator<Item = (FlowKey, Flow)> {
        (0..=self.size).map(|number| self.flow(number))
    }

    /// The flow that is a ring by itself.
    pub(super) fn lone(&self) -> u32 {
        self.size
    }

    /// The flow so many hops on from another.
    pub(super) fn after(&self, number: u32, hops: u32) -> u32 {
        if number == self.size {
            return number;
        }
        let hops = u64::from(hops) * u64::from(STRIDE) % u64::from(self.size);
        ((u64::from(number) + hops) % u64::from(self.size)) as u32
    }

    /// The flow so many hops back: where the target's packets go.
    pub(super) fn before(&self, number: u32, hops: u32) -> u32 {
        match number == self.size {
            true => number,
            // A ring: so many on as are missing to whole rounds.
            false => self.after(number, self.size - hops % self.size),
        }
    }

    fn flow(&self, number: u32) -> (FlowKey, Flow) {
        let hub = SocketAddr::new(self.hub.into(), HUB_PORT);
        let client = FlowKey::new(tuple(hub, peer(number)), Family::V4);
        let seen = word::SEEN | word::STAMPED;
        let half = |passed_end, last_ack| Half {
            passed_end,
            last_ack,
            window: 1000,
            stamp: 1,
        };
        let flow = Flow {
            word: word::COMMITTED | seen | seen << word::TARGET_SHIFT,
            id: 1 << 32 | u64::from(number),
            target: tuple(peer(self.after(number, 1)), hub),
            listener: 1,
            target_group: 2,
            shifts: Shifts {
                scale_sent: [7; 2],
                scale_announced: [7; 2],
                ifindex: self.ifindex,
                ..Shifts::default()
            },
            halves: [half(CLIENT_AT, TARGET_AT), half(TARGET_AT, CLIENT_AT)],
            last_seen: self.now,
            ..Flow::default()
        };
        (client, flow)
    }
}

/// The key of a flow in the index.
pub(super) fn target_key(flow: &Flow) -> FlowKey {
    FlowKey::new(flow.target, Family::V4)
}

/// The client of a flow; also what the flow before it takes for its own address.
pub(super) fn peer(number: u32) -> SocketAddr {
    let address = Ipv4Addr::from_bits(0x0a80_0001 + number / PORTS);
    SocketAddr::new(address.into(), (FIRST_PORT + number % PORTS) as u16)
}

fn tuple(local: SocketAddr, peer: SocketAddr) -> Tuple {
    let address = |at: SocketAddr| match at {
        SocketAddr::V4(at) => Address::v4(at.ip().to_bits().to_be()),
        SocketAddr::V6(at) => Address::from_octets(at.ip().octets()),
    };
    Tuple {
        peer: address(peer),
        local: address(local),
        peer_port: peer.port().to_be(),
        local_port: local.port().to_be(),
    }
}
