//! Which packets are of a flow and which are nobody's; those pass untouched.

use std::net::SocketAddr;

use lb_common::flow::Side;

use super::super::address;
use super::super::table::Entry;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::run::{Hook, verdict};
use super::sample::{HOOKS, SOURCE_PORTS, SYN, Sample, samples};

#[test]
fn packets_of_no_flow_pass() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
            let plain = sample.segment(Side::Client);
            let good = plain.frame();
            let port = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
            let protocol = if plain.from.is_ipv4() { 23 } else { 20 };
            let table = [
                (
                    "another client port",
                    "no_flow",
                    Plain {
                        from: port(plain.from, 40001),
                        ..plain.clone()
                    }
                    .frame(),
                ),
                (
                    "another listener",
                    "no_flow",
                    Plain {
                        to: port(plain.to, 81),
                        ..plain.clone()
                    }
                    .frame(),
                ),
                (
                    "a new connection",
                    "no_flow",
                    Plain {
                        from: port(plain.from, 5),
                        flags: SYN,
                        ..plain.clone()
                    }
                    .frame(),
                ),
                (
                    "the way back",
                    "no_flow",
                    Plain {
                        from: plain.to,
                        to: plain.from,
                        ..plain.clone()
                    }
                    .frame(),
                ),
                ("UDP", "other", changed(&good, protocol, 17)),
                ("ARP", "other", changed(&good, 13, 6)),
            ];
            for (name, outcome, frame) in table {
                both_pass(kernel, &frame, outcome, name);
            }
            // Test runs of TC refuse frames without a whole IP header.
            for length in [14, 15, 24, 33] {
                passes(kernel, Hook::Xdp, &good[..length], "other", "cut off");
            }
        }
    });
}

/// Fragments but the first carry no ports. The stack never completes them: the
/// first was dropped.
#[test]
fn later_fragments_pass() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        kernel.put(&sample.committed(kernel.routes));
        let frame = changed(&sample.segment(Side::Client).frame(), 21, 0xb9);
        both_pass(kernel, &frame, "other", "offset beyond zero");
    });
}

/// An IPv6 packet may carry addresses that look like an IPv4 flow's.
#[test]
fn mapped_addresses_in_ipv6_meet_no_ipv4_flow() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        kernel.put(&sample.committed(kernel.routes));
        let mapped = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            SocketAddr::V6(_) => address,
        };
        let plain = sample.segment(Side::Client);
        let plain = Plain {
            from: mapped(plain.from),
            to: mapped(plain.to),
            ..plain
        };
        both_pass(kernel, &plain.frame(), "no_flow", "mapped");
    });
}

/// An index entry that outlived its flow must not lead into the client's next one.
#[test]
fn an_index_entry_of_an_earlier_flow_leads_nowhere() {
    with_kernel(|kernel| {
        for sample in samples() {
            let later = Sample {
                far: SocketAddr::new(sample.far.ip(), 20_002),
                ..sample
            };
            kernel.put(&later.committed(kernel.routes));
            let earlier = sample.committed(kernel.routes);
            stale_index(kernel, &earlier);
            let frame = sample.segment(Side::Target).frame();
            both_pass(kernel, &frame, "no_flow", "stale index");
            forwards(kernel, &later.segment(Side::Target), "target_to_client");
        }
    });
}

/// The program guesses by the local port which table to ask first. Both guesses may
/// be wrong: a listener inside the range of source ports, an adopted flow with a
/// port outside of it.
#[test]
fn a_wrong_guess_at_the_table_is_made_good() {
    with_kernel(|kernel| {
        for sample in samples() {
            let inside = SocketAddr::new(sample.near.ip(), *SOURCE_PORTS.end());
            let outside = SocketAddr::new(sample.far.ip(), *SOURCE_PORTS.end() + 1);
            let sample = Sample {
                near: inside,
                far: outside,
                ..sample
            };
            kernel.put(&sample.committed(kernel.routes));
            forwards(kernel, &sample.segment(Side::Client), "client_to_target");
            forwards(kernel, &sample.segment(Side::Target), "target_to_client");
        }
    });
}

fn forwards(kernel: &Kernel, plain: &Plain, direction: &str) {
    let run = kernel.packet(Hook::Tc, &plain.frame());
    assert_eq!(run.verdict, verdict::TC_REDIRECT);
    assert_eq!(run.counted, [(direction, "forwarded")]);
}

fn both_pass(kernel: &Kernel, frame: &[u8], outcome: &str, name: &str) {
    for hook in HOOKS {
        passes(kernel, hook, frame, outcome, name);
    }
}

fn passes(kernel: &Kernel, hook: Hook, frame: &[u8], outcome: &str, name: &str) {
    let run = kernel.packet(hook, frame);
    let pass = match hook {
        Hook::Tc => verdict::TC_OK,
        Hook::Xdp => verdict::XDP_PASS,
    };
    assert_eq!(run.verdict, pass, "{name}, {hook:?}");
    assert_eq!(run.counted, [("none", outcome)], "{name}, {hook:?}");
    assert_eq!(run.packet, frame, "{name}, {hook:?}");
}

/// Puts back only the index entry of a flow whose client has a new one.
fn stale_index(kernel: &mut Kernel, earlier: &Entry) {
    let target = address::target_key(&earlier.client, &earlier.flow.target);
    kernel.index(&target, &earlier.client);
}

fn changed(frame: &[u8], at: usize, to: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = to;
    frame
}
