//! Flows and segments that tables begin with.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::flow::{Flow, Half, Shifts, Side};
use lb_common::outcome::Direction;
use lb_common::word;

use super::super::address;
use super::super::table::{Entry, monotonic};
use super::frame::Plain;
use super::kernel::Kernel;
use super::routes::Routes;
use super::run::Hook;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// The range the daemon chooses its ports from.
pub(super) const SOURCE_PORTS: RangeInclusive<u16> = 20_000..=29_999;
pub(super) const HOOKS: [Hook; 2] = [Hook::Tc, Hook::Xdp];
pub(super) const SIDES: [Side; 2] = [Side::Client, Side::Target];

/// Where the client's and the target's streams stand, each in its own numbers and
/// close to the wrap.
const CLIENT_AT: u32 = 0xffff_fff0;
const TARGET_AT: u32 = 0x7fff_fff8;
const HOUR: Duration = Duration::from_secs(3600);
const SEQ: [u32; 2] = [0x1234_5678, 0xfedc_ba98];

/// One flow in its four addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) client: SocketAddr,
    pub(super) near: SocketAddr,
    pub(super) far: SocketAddr,
    pub(super) target: SocketAddr,
}

/// IPv4 and IPv6, with the routes of [`Routes`].
pub(super) fn samples() -> [Sample; 2] {
    let sample = |[client, near, far, target]: [&str; 4]| Sample {
        client: client.parse().expect("an address"),
        near: near.parse().expect("an address"),
        far: far.parse().expect("an address"),
        target: target.parse().expect("an address"),
    };
    [
        sample([
            "10.1.0.2:40000",
            "10.1.0.1:80",
            "10.2.0.1:20001",
            "10.2.0.2:8080",
        ]),
        sample([
            "[fd00:1::2]:40000",
            "[fd00:1::1]:80",
            "[fd00:2::1]:20001",
            "[fd00:2::2]:8080",
        ]),
    ]
}

impl Sample {
    /// Nothing seen yet.
    pub(super) fn observing(&self) -> Entry {
        let flow = Flow {
            id: 0x1234_0000_0001,
            target: address::tuple(self.far, self.target),
            listener: 1,
            target_group: 2,
            ..Flow::default()
        };
        Entry {
            client: address::key(self.near, self.client),
            flow,
        }
    }

    /// In the kernel and at rest: everything sent was acknowledged.
    pub(super) fn committed(&self, routes: Routes) -> Entry {
        let mut entry = self.observing();
        let seen = word::SEEN | word::STAMPED;
        entry.flow.word = word::COMMITTED | seen | seen << word::TARGET_SHIFT | 7;
        // XDP leaves to TC what has rested; this has not, however slow the test.
        entry.flow.last_seen = (monotonic() + HOUR).as_nanos() as u64;
        entry.flow.shifts = Shifts {
            ifindex: [routes.client, routes.target],
            ..shifts()
        };
        entry.flow.halves = [
            Half {
                passed_end: CLIENT_AT,
                last_ack: TARGET_AT.wrapping_add(SEQ[1]),
                window: 1000,
                stamp: 50,
            },
            Half {
                passed_end: TARGET_AT,
                last_ack: CLIENT_AT.wrapping_add(SEQ[0]),
                window: 2000,
                stamp: 60,
            },
        ];
        entry
    }

    /// The next segment from a side, with data.
    pub(super) fn segment(&self, side: Side) -> Plain {
        let (from, to, seq, ack) = match side {
            Side::Client => (
                self.client,
                self.near,
                CLIENT_AT,
                TARGET_AT.wrapping_add(SEQ[1]),
            ),
            Side::Target => (
                self.target,
                self.far,
                TARGET_AT,
                CLIENT_AT.wrapping_add(SEQ[0]),
            ),
        };
        Plain {
            from,
            to,
            ttl: 64,
            seq,
            ack,
            flags: PSH | ACK,
            window: 0x1235,
            options: Vec::new(),
            payload: b"twenty-one bytes here".to_vec(),
        }
    }
}

/// Constants that change every field; interfaces are the namespace's.
fn shifts() -> Shifts {
    Shifts {
        seq: SEQ,
        stamp: [0x0102_0304, 0xf0e0_d0c0],
        scale_sent: [7, 5],
        scale_announced: [6, 8],
        ifindex: [0; 2],
    }
}

/// The counter's label for packets from a side.
pub(super) fn direction(side: Side) -> &'static str {
    Direction::from(side).name()
}

/// The interface a side's packets come in by.
pub(super) fn interface(kernel: &Kernel, side: Side) -> u32 {
    match side {
        Side::Client => kernel.routes.client,
        Side::Target => kernel.routes.target,
    }
}
