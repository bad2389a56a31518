//! ICMP errors about a flow: the end whose packet they quote hears them, lies are
//! dropped, and the program makes one itself where the way out is too narrow.

use std::net::IpAddr;

use lb_common::flow::Side;
use lb_common::word;

use super::super::table::Entry;
use super::error::Error;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::reference::forward;
use super::refusing::dropped;
use super::run::{Hook, Run, verdict};
use super::sample::{ACK, SIDES, Sample, direction, interface, samples};

/// An MTU below the namespace's.
const MTU: u32 = 1400;

/// A router on the way to a side.
fn router(sample: &Sample, to: Side) -> IpAddr {
    match (sample.client, to) {
        (client, Side::Client) if client.is_ipv4() => [192, 0, 2, 1].into(),
        (client, Side::Target) if client.is_ipv4() => [192, 0, 2, 2].into(),
        (_, Side::Client) => "2001:db8::1".parse().expect("an address"),
        (_, Side::Target) => "2001:db8::2".parse().expect("an address"),
    }
}

/// What a side has sent and was sent on, and the report about it.
fn reported(sample: &Sample, entry: &Entry, by: Side, quoted: usize) -> (Plain, Error) {
    let sent = Plain {
        payload: vec![7; 1600],
        ..sample.segment(by)
    };
    let mut onward = sent.frame();
    forward(&mut onward, &entry.client.tuple, &entry.flow, by).expect("valid options");
    let router = router(sample, by.other());
    let report = Error::too_big(&onward, router, 1300, quoted);
    (sent, report)
}

/// The flow has sent what is quoted: it is not yet acknowledged.
fn underway(sample: &Sample, kernel: &mut Kernel) -> Entry {
    let mut entry = sample.committed(kernel.routes);
    for half in &mut entry.flow.halves {
        half.passed_end = half.passed_end.wrapping_add(1600);
    }
    kernel.put(&entry);
    entry
}

/// Through the TC program, from the interface behind which the router is.
fn hears(kernel: &Kernel, frame: &[u8], by: Side) -> Run {
    kernel.packet_from(Hook::Tc, frame, interface(kernel, by.other()))
}

#[test]
fn reach_the_end_whose_packet_they_quote() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = underway(&sample, kernel);
            for by in SIDES {
                for quoted in [8, 500] {
                    let (sent, report) = reported(&sample, &entry, by, quoted);
                    let run = hears(kernel, &report.frame(), by);
                    assert_eq!(run.verdict, verdict::TC_REDIRECT);
                    assert_eq!(run.counted, [(direction(by.other()), "too_big")]);
                    let heard = Error::read(&run.packet);
                    assert_eq!((heard.from, heard.to), (sent.to.ip(), sent.from.ip()));
                    assert_eq!((heard.kind, heard.rest), (report.kind, 1300));
                    assert_eq!(heard.ttl, report.ttl - 1);
                    quotes(&heard, &sent);
                }
            }
            assert_eq!(kernel.flow(&entry), entry.flow, "no record has moved");
        }
    });
}

#[test]
fn of_other_kinds_reach_it_too() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = underway(&sample, kernel);
            let kinds: &[[u8; 2]] = match sample.client.is_ipv4() {
                true => &[[3, 0], [3, 1], [3, 3], [3, 13], [11, 0], [12, 0]],
                false => &[[1, 0], [1, 4], [3, 0], [4, 1]],
            };
            for kind in kinds {
                let (sent, report) = reported(&sample, &entry, Side::Client, 8);
                let report = Error {
                    kind: *kind,
                    rest: 0,
                    ..report
                };
                let run = hears(kernel, &report.frame(), Side::Client);
                assert_eq!(
                    run.counted,
                    [("target_to_client", "unreachable")],
                    "{kind:?}"
                );
                assert_eq!(run.verdict, verdict::TC_REDIRECT, "{kind:?}");
                let heard = Error::read(&run.packet);
                assert_eq!((heard.kind, heard.rest), (*kind, 0));
                quotes(&heard, &sent);
            }
        }
    });
}

#[test]
fn are_left_by_xdp_to_tc() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = underway(&sample, kernel);
            let (_, report) = reported(&sample, &entry, Side::Client, 8);
            let frame = report.frame();
            let run = kernel.packet_from(Hook::Xdp, &frame, kernel.routes.target);
            assert_eq!((run.verdict, &run.packet), (verdict::XDP_PASS, &frame));
            assert_eq!(run.counted, [("target_to_client", "deferred")]);
        }
    });
}

#[test]
fn with_a_number_that_was_not_sent_lately_are_dropped() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = underway(&sample, kernel);
            for by in SIDES {
                for (name, ahead) in [("never sent", 1_700), ("long acknowledged", 1u32 << 31)] {
                    let (_, mut report) = reported(&sample, &entry, by, 8);
                    let at = report.quoted.len() - 4;
                    let seq: [u8; 4] = report.quoted[at..].try_into().expect("four bytes");
                    let seq = u32::from_be_bytes(seq).wrapping_add(ahead);
                    report.quoted[at..].copy_from_slice(&seq.to_be_bytes());
                    let run = hears(kernel, &report.frame(), by);
                    dropped(&run, Hook::Tc, by.other(), "doubted", name);
                }
            }
            assert_eq!(kernel.flow(&entry), entry.flow);
        }
    });
}

#[test]
fn about_flows_that_are_not_live() {
    with_kernel(|kernel| {
        for sample in samples() {
            let live = underway(&sample, kernel);
            let (_, report) = reported(&sample, &live, Side::Client, 8);
            let frame = report.frame();

            kernel.put(&sample.observing());
            let run = hears(kernel, &frame, Side::Client);
            assert_eq!((run.verdict, &run.packet), (verdict::TC_OK, &frame));
            assert_eq!(run.counted, [("target_to_client", "observed")]);

            let mut ended = live;
            ended.flow.word |= word::ENDED;
            kernel.put(&ended);
            let run = hears(kernel, &frame, Side::Client);
            dropped(&run, Hook::Tc, Side::Target, "ended", "of an ended flow");

            kernel.table.remove(&ended).expect("removing");
            let run = hears(kernel, &frame, Side::Client);
            assert_eq!((run.verdict, &run.packet), (verdict::TC_OK, &frame));
            assert_eq!(run.counted, [("none", "no_flow")]);
        }
    });
}

/// A router's last hop; and cut so short that it quotes no ports.
#[test]
fn that_cannot_go_on() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = underway(&sample, kernel);
            let (_, report) = reported(&sample, &entry, Side::Client, 8);
            let spent = Error {
                ttl: 1,
                ..report.clone()
            };
            let run = hears(kernel, &spent.frame(), Side::Client);
            dropped(&run, Hook::Tc, Side::Target, "expired", "no hop left");
            let (_, cut) = reported(&sample, &entry, Side::Client, 7);
            let frame = cut.frame();
            let run = hears(kernel, &frame, Side::Client);
            assert_eq!((run.verdict, &run.packet), (verdict::TC_OK, &frame));
            assert_eq!(run.counted, [("none", "other")]);
        }
    });
}

/// The way out takes less than the segment: its sender is told, both ways, whether the
/// segment is one or is yet to be cut into many.
#[test]
fn are_made_where_the_way_out_is_narrow() {
    with_kernel(|kernel| {
        kernel.routes.mtu(MTU);
        for forwarding in [true, false] {
            // Without it the table does not answer, and the interface is asked.
            kernel.routes.forwarding(forwarding);
            for sample in samples() {
                let entry = sample.committed(kernel.routes);
                kernel.put(&entry);
                for side in SIDES {
                    for gso in [0, MTU] {
                        refused(kernel, &entry, &sample, side, gso);
                    }
                }
            }
        }
    });
}

fn refused(kernel: &mut Kernel, entry: &Entry, sample: &Sample, side: Side, gso: u32) {
    let headers = if sample.client.is_ipv4() { 40 } else { 60 };
    let fits = Plain {
        flags: ACK,
        payload: vec![1; MTU as usize - headers],
        ..sample.segment(side)
    };
    let fits_run = kernel.packet_from(Hook::Tc, &fits.frame(), interface(kernel, side));
    assert_eq!(fits_run.counted, [(direction(side), "forwarded")]);
    kernel.put(entry);

    let longer = match gso {
        0 => fits.payload.len() + 1,
        _ => 3000,
    };
    let long = Plain {
        payload: vec![1; longer],
        ..fits
    };
    let frame = long.frame();
    let run = kernel.gso_from(&frame, interface(kernel, side), gso);
    assert_eq!(run.counted, [(direction(side), "narrow")], "GSO {gso}");
    assert_eq!(run.verdict, verdict::TC_REDIRECT);
    assert_eq!(run.packet[..6], frame[6..12], "to where it came from");
    assert_eq!(run.packet[6..12], frame[..6]);
    let told = Error::read(&run.packet);
    let expected = Error::too_big(&frame, long.to.ip(), MTU, 20);
    assert_eq!(
        told,
        Error {
            ttl: 64,
            ..expected
        }
    );
    assert_eq!(kernel.flow(entry), entry.flow, "nothing was forwarded");
    let run = kernel.packet_from(Hook::Xdp, &frame, interface(kernel, side));
    assert_eq!(run.counted, [(direction(side), "deferred")]);
}

/// A route that forbids is obeyed.
#[test]
fn are_not_made_for_what_a_route_forbids() {
    with_kernel(|kernel| {
        for (sample, kind) in samples().into_iter().zip(["unreachable", "blackhole"]) {
            kernel.put(&sample.committed(kernel.routes));
            kernel.routes.forbid(kind, sample.target.ip());
            let frame = sample.segment(Side::Client).frame();
            let run = kernel.packet(Hook::Tc, &frame);
            dropped(&run, Hook::Tc, Side::Client, "unroutable", kind);
            let run = kernel.packet(Hook::Xdp, &frame);
            assert_eq!(run.counted, [("client_to_target", "deferred")]);
        }
    });
}

/// Addresses, ports and sequence number are those that the segment's sender used.
fn quotes(heard: &Error, sent: &Plain) {
    let frame = sent.frame();
    let (header, addresses) = match sent.from.is_ipv4() {
        true => (20, 12..20),
        false => (40, 8..40),
    };
    let ip = &frame[14..];
    assert_eq!(heard.quoted[addresses.clone()], ip[addresses]);
    assert_eq!(heard.quoted[header..header + 8], ip[header..header + 8]);
}
