//! A SYN on a live flow never reaches target or stack: it is answered with the
//! flow's own numbers (RFC 5961 section 4).

use lb_common::flow::Side;

use super::frame::Plain;
use super::kernel::with_kernel;
use super::piece::{Piece, encode};
use super::refusing::dropped;
use super::run::{Hook, Run, verdict};
use super::sample::{ACK, HOOKS, SIDES, SYN, Sample, direction, interface, samples};

/// As a client's kernel sends it.
fn syn(sample: &Sample, side: Side) -> Plain {
    let mss_and_sack = [Piece::Unknown(2, vec![5, 0xb4]), Piece::Unknown(4, vec![])];
    let rest = [Piece::Stamps(9, 0), Piece::Nop, Piece::Unknown(3, vec![7])];
    Plain {
        seq: 0xdead_beef,
        ack: 0,
        flags: SYN,
        options: encode(&[&mss_and_sack[..], &rest].concat()),
        payload: vec![],
        ..sample.segment(side)
    }
}

#[test]
fn is_answered_to_its_sender() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            kernel.put(&entry);
            for side in SIDES {
                for more in [0, ACK, 0xc8] {
                    let syn = Plain {
                        flags: SYN | more,
                        ..syn(&sample, side)
                    };
                    for hook in HOOKS {
                        let frame = syn.frame();
                        let run = kernel.packet_from(hook, &frame, interface(kernel, side));
                        answered(&run, &sample, side, hook, &frame);
                    }
                }
            }
            assert_eq!(kernel.flow(&entry), entry.flow, "no record has moved");
        }
    });
}

fn answered(run: &Run, sample: &Sample, side: Side, hook: Hook, syn: &[u8]) {
    let name = format!("{hook:?}, {side:?}, {}", sample.client);
    let sent = match hook {
        Hook::Tc => verdict::TC_REDIRECT,
        Hook::Xdp => verdict::XDP_TX,
    };
    assert_eq!(run.verdict, sent, "{name}");
    assert_eq!(run.counted, [(direction(side), "challenged")], "{name}");
    assert_eq!(run.packet[..6], syn[6..12], "{name}: to where it came from");
    assert_eq!(run.packet[6..12], syn[..6], "{name}");
    let answer = Plain::read(&run.packet);
    let next = sample.segment(side);
    assert_eq!((answer.from, answer.to), (next.to, next.from), "{name}");
    // What its sender would send next, and expects next.
    assert_eq!((answer.ack, answer.seq), (next.seq, next.ack), "{name}");
    assert_eq!((answer.flags, answer.payload.len()), (ACK, 0), "{name}");
    assert!(
        answer.options.iter().all(|byte| *byte == 1),
        "{name}: no option is left"
    );
    // The other end's window, in the unit announced to this one: 2000 << 5 >> 6 to
    // the client, 1000 << 7 >> 8 to the target.
    assert_eq!(answer.window, [1000, 500][side.index()], "{name}");
}

#[test]
fn with_data_is_dropped() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
            let frame = Plain {
                payload: vec![1],
                ..syn(&sample, Side::Client)
            }
            .frame();
            for hook in HOOKS {
                let run = kernel.packet(hook, &frame);
                dropped(&run, hook, Side::Client, "malformed", "SYN with data");
            }
        }
    });
}

/// The answer is a packet of the balancer's own, not a forwarded one: what is left
/// of the SYN's hops says nothing about the way back.
#[test]
fn is_answered_with_hops_of_its_own() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
            let frame = Plain {
                ttl: 1,
                ..syn(&sample, Side::Client)
            }
            .frame();
            for hook in HOOKS {
                let run = kernel.packet(hook, &frame);
                let ttl = Plain::read(&run.packet).ttl;
                assert!(
                    ttl >= 64,
                    "{hook:?}: the answer leaves with {ttl} hops to go"
                );
            }
        }
    });
}
