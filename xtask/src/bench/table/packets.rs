//! What a packet costs, by BPF_PROG_TEST_RUN of the attached program.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, loaded_programs};
use lb_tests::lab::Lab;

use super::frame::Plain;
use super::ring::{CLIENT_AT, HUB_PORT, PAYLOAD, Ring, TARGET_AT, peer};

/// Packets of one call: each takes one from the TTL.
const HOPS: u32 = 250;
const TTL: u8 = 255;
/// TC_ACT_REDIRECT (include/uapi/linux/pkt_cls.h).
const REDIRECT: u32 = 7;
/// NOP NOP timestamps (RFC 7323 appendix A).
const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 5];
const PSH_ACK: u8 = 0x18;

/// The program, and where its packets go.
pub(super) struct Packets {
    program: SchedClassifier,
    pub(super) hub: Ipv4Addr,
    /// Toward clients and toward the target.
    pub(super) ifindex: [u32; 2],
}

/// Nanoseconds for a packet, the median over all calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) one_key: u64,
    pub(super) random: u64,
}

pub(super) struct Cost {
    pub(super) client: Side,
    pub(super) target: Side,
}

/// Whose packets.
#[derive(Debug, Clone, Copy)]
enum From {
    Client,
    Target,
}

impl Packets {
    /// The TC program that uses the map with this id.
    pub(super) fn new(lab: &Lab, map: u32) -> Result<Self> {
        let IpAddr::V4(hub) = lab.target(1).ip() else {
            bail!("the lab's targets have IPv4 addresses");
        };
        let indexes = lab.balancer.run(|| -> Result<_> {
            let index = |name: &str| nix::net::if_::if_nametoindex(name);
            Ok([index("client")?, index("target1")?])
        });
        // Clients are where the program can find a way to.
        let route = ["route", "add", "10.128.0.0/16", "via", "10.71.0.2"];
        lab.balancer
            .output(std::process::Command::new("ip").args(route))?;
        Ok(Self {
            program: program(map)?,
            hub,
            ifindex: indexes?,
        })
    }

    /// Measures a ring that is in the table.
    pub(super) fn measure(&self, lab: &Lab, ring: &Ring, calls: u32) -> Result<Cost> {
        // The program asks for routes: those of the balancer.
        lab.balancer.run(|| {
            let side = |from| -> Result<Side> {
                Ok(Side {
                    one_key: self.median(ring, from, calls, |_| ring.lone())?,
                    random: self.median(ring, from, calls, |call| {
                        // Far apart, and each flow about as often as any other.
                        ring.after(0, call.wrapping_mul(HOPS))
                    })?,
                })
            };
            Ok(Cost {
                client: side(From::Client)?,
                target: side(From::Target)?,
            })
        })
    }

    fn median(
        &self,
        ring: &Ring,
        from: From,
        calls: u32,
        start: impl Fn(u32) -> u32,
    ) -> Result<u64> {
        let mut times = Vec::new();
        for call in 0..calls {
            times.push(self.call(ring, from, start(call))?);
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().context("no calls")
    }

    /// Sends a packet along the ring; nanoseconds for each hop.
    fn call(&self, ring: &Ring, from: From, number: u32) -> Result<u64> {
        let frame = self.packet(from, number, TTL).frame();
        let mut out = vec![0; frame.len() + 64];
        // struct __sk_buff up to ingress_ifindex and ifindex.
        let mut context = [0u8; 44];
        let arrived = self.ifindex[match from {
            From::Client => 0,
            From::Target => 1,
        }];
        context[36..40].copy_from_slice(&arrived.to_ne_bytes());
        context[40..44].copy_from_slice(&arrived.to_ne_bytes());
        let result = self.program.test_run(TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            repeat: HOPS,
            ..TestRunOptions::default()
        })?;
        ensure!(
            result.return_value == REDIRECT,
            "verdict {}",
            result.return_value
        );
        let last = match from {
            From::Client => ring.after(number, HOPS),
            From::Target => ring.before(number, HOPS),
        };
        // All of it: a hop that failed would have left another packet behind.
        let expected = self.packet(from, last, TTL - HOPS as u8).frame();
        ensure!(
            out.get(..frame.len()) == Some(&expected),
            "not forwarded {HOPS} times"
        );
        Ok(result.duration.as_nanos() as u64)
    }

    /// The packet that meets this flow.
    fn packet(&self, from: From, number: u32, ttl: u8) -> Plain {
        let hub = (self.hub, HUB_PORT).into();
        let (from, to, seq, ack) = match from {
            From::Client => (peer(number), hub, CLIENT_AT, TARGET_AT),
            From::Target => (hub, peer(number), TARGET_AT, CLIENT_AT),
        };
        Plain {
            from,
            to,
            ttl,
            seq,
            ack,
            flags: PSH_ACK,
            window: 1000,
            options: STAMPS.to_vec(),
            payload: vec![b'x'; PAYLOAD as usize],
        }
    }
}

/// Other daemons may run on this machine.
fn program(map: u32) -> Result<SchedClassifier> {
    for info in loaded_programs() {
        // One that goes away in this moment is not ours.
        let Ok(info) = info else { continue };
        let uses = info.map_ids()?.is_some_and(|maps| maps.contains(&map));
        if uses && info.name_as_str() == Some("limpet_tc") {
            return Ok(SchedClassifier::from_program_info(
                info,
                "limpet_tc".into(),
            )?);
        }
    }
    bail!("the daemon's program is not loaded")
}
