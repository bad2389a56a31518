//! Packets that are not forwarded: dropped and counted by their reason if they are
//! of a live flow, else left to the stack as they came.

use lb_common::flow::Side;
use lb_common::word;

use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::run::{Hook, Run, verdict};
use super::sample::{HOOKS, SIDES, Sample, direction, interface, samples};

const TTL: [usize; 2] = [22, 21];

#[test]
fn of_a_live_flow_are_dropped() {
    with_kernel(|kernel| {
        for (sample, tcp) in samples().into_iter().zip([34, 54]) {
            for side in SIDES {
                let good = sample.segment(side).frame();
                let changed = |at: usize, to: u8| {
                    let mut frame = good.clone();
                    frame[at] = to;
                    frame
                };
                let ttl = TTL[usize::from(tcp == 54)];
                let table = [
                    ("the last hop", changed(ttl, 1), "expired"),
                    ("beyond the last hop", changed(ttl, 0), "expired"),
                    ("nothing but ports", good[..tcp + 4].to_vec(), "malformed"),
                    (
                        "a header short of a byte",
                        good[..tcp + 19].to_vec(),
                        "malformed",
                    ),
                    (
                        "a header said to be short",
                        changed(tcp + 12, 0x40),
                        "malformed",
                    ),
                    ("no header length", changed(tcp + 12, 0), "malformed"),
                    (
                        "a header beyond the packet",
                        changed(tcp + 12, 0xf0),
                        "malformed",
                    ),
                ];
                for (name, frame, outcome) in table {
                    for hook in HOOKS {
                        let run = run(kernel, &sample, hook, side, &frame);
                        dropped(&run, hook, side, outcome, name);
                        assert_eq!(run.packet, frame, "{name}: untouched");
                    }
                }
            }
        }
    });
}

/// Found only while rewriting; what is left of the packet does not matter.
#[test]
fn with_bad_options_are_dropped() {
    const TABLE: [(&str, [u8; 4]); 4] = [
        ("length zero", [8, 0, 1, 1]),
        ("length one", [253, 1, 1, 1]),
        ("beyond the header", [1, 8, 10, 0]),
        ("a kind and nothing more", [1, 1, 1, 8]),
    ];
    with_kernel(|kernel| {
        for sample in samples() {
            for side in SIDES {
                for (name, options) in TABLE {
                    let segment = Plain {
                        options: options.to_vec(),
                        ..sample.segment(side)
                    };
                    for hook in HOOKS {
                        let run = run(kernel, &sample, hook, side, &segment.frame());
                        dropped(&run, hook, side, "malformed", name);
                    }
                }
            }
        }
    });
}

/// A packet that is dropped has told the receiver nothing: what it said must not
/// become part of what resets and the end of the flow are decided on.
#[test]
fn with_bad_options_move_no_record() {
    with_kernel(|kernel| {
        for sample in samples() {
            let segment = Plain {
                options: vec![8, 0, 1, 1],
                ..sample.segment(Side::Client)
            };
            for hook in HOOKS {
                let entry = sample.committed(kernel.routes);
                kernel.put(&entry);
                kernel.packet(hook, &segment.frame());
                assert_eq!(kernel.flow(&entry), entry.flow, "{hook:?}");
            }
        }
    });
}

#[test]
fn of_an_ended_flow_are_dropped() {
    with_kernel(|kernel| {
        for sample in samples() {
            let mut entry = sample.committed(kernel.routes);
            entry.flow.word |= word::ENDED;
            kernel.put(&entry);
            for (hook, side) in HOOKS.into_iter().zip(SIDES) {
                let frame = sample.segment(side).frame();
                let run = kernel.packet_from(hook, &frame, interface(kernel, side));
                dropped(&run, hook, side, "ended", "ended");
            }
            assert_eq!(
                kernel.flow(&entry),
                entry.flow,
                "nothing is recorded any more"
            );
        }
    });
}

fn run(kernel: &mut Kernel, sample: &Sample, hook: Hook, side: Side, frame: &[u8]) -> Run {
    kernel.put(&sample.committed(kernel.routes));
    kernel.packet_from(hook, frame, interface(kernel, side))
}

pub(super) fn dropped(run: &Run, hook: Hook, side: Side, outcome: &'static str, name: &str) {
    let name = format!("{name}, from {side:?}");
    dropped_of(run, hook, direction(side), outcome, &name);
}

pub(super) fn dropped_of(
    run: &Run,
    hook: Hook,
    direction: &'static str,
    outcome: &'static str,
    name: &str,
) {
    let name = format!("{name}, {hook:?}");
    let drop = match hook {
        Hook::Tc => verdict::TC_SHOT,
        Hook::Xdp => verdict::XDP_DROP,
    };
    assert_eq!(run.verdict, drop, "{name}");
    assert_eq!(run.counted, [(direction, outcome)], "{name}");
}
