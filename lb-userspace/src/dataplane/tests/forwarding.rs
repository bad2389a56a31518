//! Segments of a committed flow leave as segments of the other leg: byte for byte
//! what lb-common makes of them on a slice, both hooks, both ways, both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lb_common::flow::{BLANK_SACK, Flow, Side};

use super::super::table::Entry;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::options::options;
use super::reference::forward;
use super::routes::{BALANCER_MACS, CLIENT_MAC, TARGET_MAC};
use super::run::{Hook, verdict};
use super::sample::{ACK, FIN, HOOKS, RST, SIDES, direction, interface, samples};

/// By when a change must have been noticed, on any machine: a hundred times the usual.
const MOMENT: Duration = Duration::from_secs(10);

#[test]
fn every_shape_of_options() {
    with_kernel(|kernel| {
        for sample in samples() {
            let mut entry = sample.committed(kernel.routes);
            for blank in [0, BLANK_SACK] {
                entry
                    .flow
                    .shifts
                    .scale_announced
                    .iter_mut()
                    .for_each(|scale| *scale |= blank);
                for (name, options) in options() {
                    for side in SIDES {
                        let segment = Plain {
                            options: options.clone(),
                            ..sample.segment(side)
                        };
                        check(kernel, &entry, &segment, side, name);
                    }
                }
            }
        }
    });
}

#[test]
fn every_kind_of_segment() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            for side in SIDES {
                let next = sample.segment(side);
                let table = [
                    (
                        "no data",
                        Plain {
                            payload: vec![],
                            ..next.clone()
                        },
                    ),
                    (
                        "one byte",
                        Plain {
                            payload: vec![1],
                            ..next.clone()
                        },
                    ),
                    (
                        "a full segment",
                        Plain {
                            payload: vec![0xa5; 1460],
                            ..next.clone()
                        },
                    ),
                    (
                        "a FIN",
                        Plain {
                            flags: FIN | ACK,
                            ..next.clone()
                        },
                    ),
                    (
                        "a reset without ACK",
                        Plain {
                            flags: RST,
                            payload: vec![],
                            ..next.clone()
                        },
                    ),
                    (
                        "all other flags",
                        Plain {
                            flags: !0x02,
                            ..next.clone()
                        },
                    ),
                    (
                        "no window",
                        Plain {
                            window: 0,
                            ..next.clone()
                        },
                    ),
                    (
                        "the least window",
                        Plain {
                            window: 1,
                            ..next.clone()
                        },
                    ),
                    (
                        "the greatest window",
                        Plain {
                            window: 0xffff,
                            ..next.clone()
                        },
                    ),
                    (
                        "the last hop but one",
                        Plain {
                            ttl: 2,
                            ..next.clone()
                        },
                    ),
                    (
                        "numbers from nowhere",
                        Plain {
                            seq: 9,
                            ack: 0x4000_0000,
                            ..next
                        },
                    ),
                ];
                for (name, segment) in table {
                    check(kernel, &entry, &segment, side, name);
                }
            }
        }
    });
}

/// Where XDP knows no next hop it leaves the packet and the flow alone: TC, behind
/// it, forwards and books it.
#[test]
fn what_xdp_cannot_send_is_left_whole_to_tc() {
    with_kernel(|kernel| {
        for mut sample in samples() {
            // On the target's network, but nobody knows its neighbour.
            sample.target.set_ip(match sample.far.ip() {
                IpAddr::V4(ip) => (ip | Ipv4Addr::new(0, 0, 0, 9)).into(),
                IpAddr::V6(ip) => (ip | Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 9)).into(),
            });
            deferred(
                kernel,
                &sample.committed(kernel.routes),
                &sample.segment(Side::Client),
            );
        }
        kernel.routes.forwarding(false);
        for sample in samples() {
            deferred(
                kernel,
                &sample.committed(kernel.routes),
                &sample.segment(Side::Client),
            );
        }
    });
}

/// What the routing table has said is believed for a moment only, on both hooks.
#[test]
fn a_route_that_is_forbidden_meanwhile() {
    with_kernel(|kernel| {
        for (sample, hook) in samples().into_iter().zip([Hook::Tc, Hook::Xdp]) {
            let entry = sample.committed(kernel.routes);
            let frame = sample.segment(Side::Client).frame();
            kernel.put(&entry);
            let run = kernel.packet(hook, &frame);
            assert_eq!(run.counted, [("client_to_target", "forwarded")]);
            kernel.routes.forbid("blackhole", sample.target.ip());
            let start = Instant::now();
            let refused = match hook {
                Hook::Tc => "unroutable",
                Hook::Xdp => "deferred",
            };
            while kernel.packet(hook, &frame).counted != [("client_to_target", refused)] {
                assert!(start.elapsed() < MOMENT, "still forwarded by {hook:?}");
            }
        }
    });
}

fn deferred(kernel: &mut Kernel, entry: &Entry, segment: &Plain) {
    kernel.put(entry);
    let frame = segment.frame();
    let run = kernel.packet(Hook::Xdp, &frame);
    assert_eq!((run.verdict, &run.packet), (verdict::XDP_PASS, &frame));
    assert_eq!(run.counted, [("client_to_target", "deferred")]);
    assert_eq!(kernel.flow(entry), entry.flow);
    check_hook(
        kernel,
        entry,
        segment,
        Side::Client,
        Hook::Tc,
        "left by XDP",
    );
}

fn check(kernel: &mut Kernel, entry: &Entry, segment: &Plain, side: Side, name: &str) {
    for hook in HOOKS {
        check_hook(kernel, entry, segment, side, hook, name);
    }
}

fn check_hook(
    kernel: &mut Kernel,
    entry: &Entry,
    segment: &Plain,
    side: Side,
    hook: Hook,
    name: &str,
) {
    let name = format!("{name}, {hook:?}, from {side:?}, {}", segment.from);
    kernel.put(entry);
    let frame = segment.frame();
    let mut expected = frame.clone();
    forward(&mut expected, &entry.client.tuple, &entry.flow, side).expect("valid options");
    let sent = match hook {
        Hook::Tc => verdict::TC_REDIRECT,
        Hook::Xdp => {
            let to = if side == Side::Client {
                TARGET_MAC
            } else {
                CLIENT_MAC
            };
            expected[..6].copy_from_slice(&to);
            expected[6..12].copy_from_slice(&BALANCER_MACS[side.other().index()]);
            verdict::XDP_REDIRECT
        }
    };
    let run = kernel.packet_from(hook, &frame, interface(kernel, side));
    assert_eq!(run.verdict, sent, "{name}");
    assert_eq!(run.counted, [(direction(side), "forwarded")], "{name}");
    assert_eq!(run.packet, expected, "{name}");
    // Both checksums, summed from scratch.
    Plain::read(&run.packet);
    booked(&entry.flow, &kernel.flow(entry), segment, side, &name);
}

/// The sender's packets and bytes, and nothing that the daemon has written.
fn booked(before: &Flow, after: &Flow, segment: &Plain, side: Side, name: &str) {
    let (near, far) = (side.index(), side.other().index());
    assert_eq!(after.packets[near], before.packets[near] + 1, "{name}");
    assert_eq!(
        after.bytes[near],
        before.bytes[near] + segment.payload.len() as u64,
        "{name}"
    );
    let kept = |flow: &Flow| {
        (
            flow.id,
            flow.target,
            flow.shifts,
            flow.halves[far],
            flow.packets[far],
        )
    };
    assert_eq!(kept(after), kept(before), "{name}");
}
