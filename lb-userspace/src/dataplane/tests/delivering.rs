//! Ends on the balancer's own host: their packets come in by the loopback and by nothing
//! else, and what is for them is handed to the loopback.

use lb_common::flow::{LOCAL, Side};

use super::super::table::Entry;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::reference::forward;
use super::run::{Hook, verdict};
use super::sample::{HOOKS, SIDES, Sample, direction, interface, samples};

/// `LOOPBACK_IFINDEX` (net/flow.h).
const LOOPBACK: u32 = 1;

/// A flow with this one of its ends on the balancer's own host.
fn with_local(sample: &Sample, side: Side, kernel: &Kernel) -> Entry {
    let mut entry = sample.committed(kernel.routes);
    entry.flow.shifts.scale_announced[side.index()] |= LOCAL;
    entry.flow.shifts.ifindex[side.index()] = LOOPBACK;
    entry
}

#[test]
fn what_a_local_end_sends_leaves_as_any_others() {
    with_kernel(|kernel| {
        for (sample, side) in cases() {
            let entry = with_local(&sample, side, kernel);
            kernel.put(&entry);
            let frame = sample.segment(side).frame();
            let run = kernel.packet_from(Hook::Tc, &frame, LOOPBACK);
            assert_eq!(run.verdict, verdict::TC_REDIRECT, "{side:?}");
            assert_eq!(run.counted, [(direction(side), "forwarded")], "{side:?}");
            assert_eq!(run.packet, rewritten(&entry, &frame, side), "{side:?}");
        }
    });
}

/// The loopback takes only what is addressed to its hardware, which is all zeros; and
/// XDP cannot reach it.
#[test]
fn what_is_for_a_local_end_is_handed_to_the_loopback() {
    with_kernel(|kernel| {
        for (sample, side) in cases() {
            let entry = with_local(&sample, side, kernel);
            kernel.put(&entry);
            let from = side.other();
            let frame = sample.segment(from).frame();
            let run = kernel.packet_from(Hook::Xdp, &frame, interface(kernel, from));
            assert_eq!((run.verdict, &run.packet), (verdict::XDP_PASS, &frame));
            assert_eq!(run.counted, [(direction(from), "deferred")], "{side:?}");
            let run = kernel.packet_from(Hook::Tc, &frame, interface(kernel, from));
            assert_eq!(run.verdict, verdict::TC_REDIRECT, "{side:?}");
            assert_eq!(run.counted, [(direction(from), "forwarded")], "{side:?}");
            let mut expected = rewritten(&entry, &frame, from);
            expected[..12].fill(0);
            assert_eq!(run.packet, expected, "{side:?}");
        }
    });
}

/// An address of this host in a packet off the wire is a lie, and so is another's in one
/// off the loopback: they are the stack's, and the flow does not know of them.
#[test]
fn packets_that_come_in_where_the_end_is_not_are_not_the_flows() {
    with_kernel(|kernel| {
        for (sample, side) in cases() {
            let segment = sample.segment(side);
            let local = with_local(&sample, side, kernel);
            for hook in HOOKS {
                passes(kernel, hook, &local, &segment, interface(kernel, side));
            }
            let remote = sample.committed(kernel.routes);
            passes(kernel, Hook::Tc, &remote, &segment, LOOPBACK);
            let observing = sample.observing();
            passes(kernel, Hook::Tc, &observing, &segment, LOOPBACK);
        }
    });
}

fn passes(kernel: &mut Kernel, hook: Hook, entry: &Entry, segment: &Plain, ifindex: u32) {
    kernel.put(entry);
    let frame = segment.frame();
    let run = kernel.packet_from(hook, &frame, ifindex);
    let pass = match hook {
        Hook::Tc => verdict::TC_OK,
        Hook::Xdp => verdict::XDP_PASS,
    };
    assert_eq!((run.verdict, &run.packet), (pass, &frame), "{hook:?}");
    assert_eq!(run.counted, [("none", "no_flow")], "{hook:?}");
    assert_eq!(kernel.flow(entry), entry.flow, "{hook:?}");
}

fn rewritten(entry: &Entry, frame: &[u8], side: Side) -> Vec<u8> {
    let mut expected = frame.to_vec();
    forward(&mut expected, &entry.client.tuple, &entry.flow, side).expect("valid options");
    expected
}

fn cases() -> impl Iterator<Item = (Sample, Side)> {
    samples()
        .into_iter()
        .flat_map(|sample| SIDES.map(|side| (sample, side)))
}
