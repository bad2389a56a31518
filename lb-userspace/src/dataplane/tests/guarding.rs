//! The guard at the egress: what the host's own stack makes to end a live flow does
//! not leave, everything else does.
//!
//! Whether the stack made a packet is told by `ingress_ifindex`, which test runs
//! can set: zero is what a packet of the stack has.

use lb_common::flow::Side;
use lb_common::word;

use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::run::verdict;
use super::sample::{ACK, FIN, RST, SIDES, Sample, direction, samples};

/// What the balancer's stack would send to a side.
fn reset(sample: &Sample, to: Side) -> Plain {
    let heard = sample.segment(to);
    Plain {
        from: heard.to,
        to: heard.from,
        flags: RST,
        payload: vec![],
        ..heard
    }
}

#[test]
fn ends_that_the_stack_makes_of_a_live_flow_stay_here() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
            for to in SIDES {
                for flags in [RST, RST | ACK, FIN, FIN | ACK] {
                    let frame = Plain {
                        flags,
                        ..reset(&sample, to)
                    }
                    .frame();
                    let run = kernel.leaving(&frame, 0);
                    assert_eq!(run.verdict, verdict::TC_SHOT);
                    assert_eq!(run.counted, [(direction(to.other()), "guarded")]);
                }
            }
        }
    });
}

#[test]
fn all_else_leaves() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
            for to in SIDES {
                let reset = reset(&sample, to);
                let with = |flags| Plain {
                    flags,
                    ..reset.clone()
                };
                for flags in [RST, FIN | ACK] {
                    let name = "a peer's end, forwarded";
                    leaves(kernel, &with(flags), kernel.routes.target, name);
                }
                leaves(kernel, &with(ACK), 0, "what ends nothing");
                let other = Plain {
                    to: sample.near,
                    ..reset
                };
                leaves(kernel, &other, 0, "another connection's reset");
            }
        }
    });
}

#[test]
fn ends_of_a_flow_that_is_not_live_leave() {
    with_kernel(|kernel| {
        for sample in samples() {
            for to in SIDES {
                kernel.put(&sample.observing());
                leaves(kernel, &reset(&sample, to), 0, "the socket's own");
                let fin = Plain {
                    flags: FIN | ACK,
                    ..reset(&sample, to)
                };
                leaves(kernel, &fin, 0, "the socket's own");
                let mut ended = sample.committed(kernel.routes);
                ended.flow.word |= word::ENDED;
                kernel.put(&ended);
                leaves(kernel, &reset(&sample, to), 0, "the daemon's own");
            }
        }
    });
}

fn leaves(kernel: &Kernel, segment: &Plain, came_in: u32, name: &str) {
    let frame = segment.frame();
    let run = kernel.leaving(&frame, came_in);
    assert_eq!((run.verdict, run.packet), (verdict::TC_OK, frame), "{name}");
    assert_eq!(run.counted, [], "{name}: counted where it came in");
}
