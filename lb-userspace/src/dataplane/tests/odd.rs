//! Fragments, IPv4 options, IPv6 extension headers. A live flow's are dropped: the
//! stack has no socket for them. An observed flow's are the stack's, and may carry
//! data to the socket.

use lb_common::control::Reply;
use lb_common::flow::Side;
use lb_common::outcome::Outcome;

use super::frame::Plain;
use super::kernel::with_kernel;
use super::refusing::dropped;
use super::run::{Hook, verdict};
use super::sample::{HOOKS, SIDES, interface, samples};

/// Name, what its outcome is on a live flow, and the frame made of a plain one.
fn oddities(plain: &Plain) -> Vec<(&'static str, Outcome, Vec<u8>)> {
    let frame = plain.frame();
    match plain.from.is_ipv4() {
        true => vec![
            (
                "first fragment",
                Outcome::Fragment,
                changed(&frame, 20, 0x20),
            ),
            (
                "router alert",
                Outcome::Headers,
                inserted(&changed(&frame, 14, 0x46), 34, &[0x94, 4, 0, 0]),
            ),
        ],
        false => vec![
            (
                "first fragment",
                Outcome::Fragment,
                extended(&frame, 44, &[6, 0, 0, 1, 0, 0, 0, 9]),
            ),
            (
                "whole in a fragment header",
                Outcome::Fragment,
                extended(&frame, 44, &[6, 0, 0, 0, 0, 0, 0, 9]),
            ),
            (
                "hop by hop",
                Outcome::Headers,
                extended(&frame, 0, &[6, 0, 5, 2, 0, 0, 1, 0]),
            ),
            (
                "routing",
                Outcome::Headers,
                extended(&frame, 43, &[6, 0, 0, 0, 0, 0, 0, 0]),
            ),
            (
                "destination options, long",
                Outcome::Headers,
                extended(
                    &frame,
                    60,
                    &[6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                ),
            ),
            (
                "two headers",
                Outcome::Headers,
                extended(
                    &frame,
                    0,
                    &[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0],
                ),
            ),
        ],
    }
}

#[test]
fn of_a_live_flow_are_dropped() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            kernel.put(&entry);
            for side in SIDES {
                for (name, outcome, frame) in oddities(&sample.segment(side)) {
                    for hook in HOOKS {
                        let run = kernel.packet_from(hook, &frame, interface(kernel, side));
                        dropped(&run, hook, side, outcome.name(), name);
                    }
                }
            }
            assert_eq!(kernel.flow(&entry), entry.flow);
        }
    });
}

#[test]
fn of_an_observed_flow_are_the_stacks() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.observing());
            for (name, _, frame) in oddities(&sample.segment(Side::Client)) {
                let run = kernel.packet(Hook::Tc, &frame);
                assert_eq!(
                    (run.verdict, &run.packet),
                    (verdict::TC_OK, &frame),
                    "{name}"
                );
                assert_eq!(run.counted, [("client_to_target", "observed")], "{name}");
            }
        }
    });
}

/// The stack puts their data into the socket like any other. One that comes between
/// reading the word and the swap must fail the swap, or its bytes are lost with the
/// socket although their sender was told they arrived.
#[test]
fn of_an_observed_flow_fail_a_commit_under_way() {
    with_kernel(|kernel| {
        for sample in samples() {
            for (name, _, frame) in oddities(&sample.segment(Side::Client)) {
                let entry = sample.observing();
                kernel.put(&entry);
                let word = kernel.flow(&entry).word;
                kernel.packet(Hook::Tc, &frame);
                let reply = kernel.request(&super::commit::request(&entry, word));
                assert_eq!(reply, Reply::Changed as u32, "{name}");
            }
        }
    });
}

fn changed(frame: &[u8], at: usize, to: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = to;
    frame
}

/// An IPv6 extension header (or several) before TCP.
fn extended(frame: &[u8], kind: u8, header: &[u8]) -> Vec<u8> {
    inserted(&changed(frame, 20, kind), 54, header)
}

/// More bytes at `at`, and the length in the IP header by as much greater.
fn inserted(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(at..at, bytes.iter().copied());
    let field = if frame[12] == 0x08 { 16 } else { 18 };
    let length = u16::from_be_bytes([frame[field], frame[field + 1]]) + bytes.len() as u16;
    frame[field..field + 2].copy_from_slice(&length.to_be_bytes());
    frame
}
