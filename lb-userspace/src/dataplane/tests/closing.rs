//! The end of a flow as the program sees it: which FIN and RST are believed, and
//! that the daemon is told once. All are forwarded, believed or not.

use lb_common::flow::Side;
use lb_common::word;

use super::frame::Plain;
use super::kernel::with_kernel;
use super::run::{Hook, verdict};
use super::sample::{ACK, FIN, HOOKS, RST, SIDES, interface, samples};

#[test]
fn resets_and_fins() {
    with_kernel(|kernel| {
        for sample in samples() {
            for side in SIDES {
                let next = Plain {
                    payload: vec![],
                    ..sample.segment(side)
                };
                let at = |by: u32| next.seq.wrapping_add(by);
                let table = [
                    ("a FIN", FIN | ACK, at(0), word::FIN),
                    ("a FIN before the end", FIN | ACK, at(u32::MAX - 5000), 0),
                    ("a FIN one before the end", FIN | ACK, at(u32::MAX - 1), 0),
                    ("a FIN without ACK", FIN, at(0), 0),
                    ("a FIN beyond the window", FIN | ACK, at(1 << 24), 0),
                    ("a reset where it must be", RST, at(0), word::RST),
                    ("with ACK", RST | ACK, at(0), word::RST),
                    ("one ahead", RST, at(1), 0),
                    ("one behind", RST, at(u32::MAX), 0),
                    ("anywhere in the window", RST, at(1000), 0),
                    ("out of the window", RST | ACK, at(1 << 31), 0),
                    ("a reset with FIN", RST | FIN | ACK, at(0), word::RST),
                ];
                for (name, flags, seq, flag) in table {
                    let frame = Plain {
                        flags,
                        seq,
                        ..next.clone()
                    }
                    .frame();
                    for hook in HOOKS {
                        let name = format!("{name}, {hook:?}, {side:?}, {}", sample.client);
                        let entry = sample.committed(kernel.routes);
                        kernel.put(&entry);
                        let run = kernel.packet_from(hook, &frame, interface(kernel, side));
                        assert_eq!(run.verdict, forwarded(hook), "{name}");
                        let word = kernel.flow(&entry).word;
                        let waits = side == Side::Target && flag == word::FIN;
                        let waits = if waits { word::TARGET_WAITS } else { 0 };
                        let expected = entry.flow.word | word::of(side, flag) | waits;
                        assert_eq!(word, expected, "{name}");
                        let told = kernel.events();
                        assert_eq!(told.len(), usize::from(flag != 0), "{name}");
                        for event in told {
                            let said = (event.client, event.id, event.word);
                            assert_eq!(said, (entry.client, entry.flow.id, word), "{name}");
                        }
                    }
                }
            }
        }
    });
}

/// After data the reset must stand behind it only once it was acknowledged.
#[test]
fn a_reset_is_believed_where_its_receiver_stands_not_its_sender() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        let entry = sample.committed(kernel.routes);
        kernel.put(&entry);
        let data = sample.segment(Side::Client);
        let length = data.payload.len() as u32;
        let end = data.seq.wrapping_add(length);
        kernel.packet(Hook::Tc, &data.frame());
        let reset = Plain {
            flags: RST,
            seq: end,
            payload: vec![],
            ..data
        };
        kernel.packet(Hook::Tc, &reset.frame());
        assert!(
            !word::closing(kernel.flow(&entry).word),
            "not acknowledged yet"
        );
        let ack = sample.segment(Side::Target);
        let ack = Plain {
            ack: ack.ack.wrapping_add(length),
            payload: vec![],
            ..ack
        };
        kernel.packet(Hook::Tc, &ack.frame());
        kernel.packet(Hook::Tc, &reset.frame());
        assert!(word::closing(kernel.flow(&entry).word), "acknowledged");
    });
}

#[test]
fn the_daemon_is_told_once_of_each_side() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        kernel.put(&sample.committed(kernel.routes));
        for _ in 0..3 {
            for side in SIDES {
                let fin = Plain {
                    flags: FIN | ACK,
                    payload: vec![],
                    ..sample.segment(side)
                };
                kernel.packet(Hook::Tc, &fin.frame());
            }
        }
        assert_eq!(kernel.events().len(), 2);
    });
}

/// Else keepalives and retransmissions would keep a dead connection alive.
#[test]
fn only_new_data_counts_as_life() {
    with_kernel(|kernel| {
        for sample in samples() {
            for side in SIDES {
                let next = sample.segment(side);
                let table = [
                    ("data", next.clone(), true),
                    (
                        "an acknowledgment",
                        Plain {
                            payload: vec![],
                            ..next.clone()
                        },
                        false,
                    ),
                    (
                        "a keepalive",
                        Plain {
                            seq: next.seq.wrapping_sub(1),
                            payload: vec![],
                            ..next.clone()
                        },
                        false,
                    ),
                    (
                        "a retransmission",
                        Plain {
                            seq: next.seq.wrapping_sub(21),
                            ..next.clone()
                        },
                        false,
                    ),
                    (
                        "data beyond the window",
                        Plain {
                            seq: next.seq.wrapping_add(1 << 24),
                            ..next
                        },
                        false,
                    ),
                ];
                for (name, segment, alive) in table {
                    let entry = sample.committed(kernel.routes);
                    kernel.put(&entry);
                    kernel.packet(Hook::Tc, &segment.frame());
                    let seen = kernel.flow(&entry).last_seen;
                    assert_eq!(seen != entry.flow.last_seen, alive, "{name}, {side:?}");
                }
            }
        }
    });
}

/// Whose TIME_WAIT it will be decides how long the port rests: that of whoever had not
/// seen the other's FIN when it sent its own.
#[test]
fn a_target_waits_if_its_fin_does_not_answer_the_clients() {
    with_kernel(|kernel| {
        for sample in samples() {
            let fin = |side, acks: u32| {
                let next = sample.segment(side);
                Plain {
                    flags: FIN | ACK,
                    ack: next.ack.wrapping_add(acks),
                    payload: vec![],
                    ..next
                }
            };
            let (client, target) = (Side::Client, Side::Target);
            let table = [
                (
                    "the target first",
                    vec![fin(target, 0), fin(client, 1)],
                    true,
                ),
                (
                    "the client first",
                    vec![fin(client, 0), fin(target, 1)],
                    false,
                ),
                ("both at once", vec![fin(client, 0), fin(target, 0)], true),
                (
                    "both at once, and the target again",
                    vec![fin(client, 0), fin(target, 0), fin(target, 1)],
                    true,
                ),
                (
                    "the client first, and the target twice",
                    vec![fin(client, 0), fin(target, 1), fin(target, 1)],
                    false,
                ),
            ];
            for (name, fins, waits) in table {
                for hook in HOOKS {
                    let entry = sample.committed(kernel.routes);
                    kernel.put(&entry);
                    for fin in &fins {
                        let side = match fin.from == sample.client {
                            true => client,
                            false => target,
                        };
                        kernel.packet_from(hook, &fin.frame(), interface(kernel, side));
                    }
                    let word = kernel.flow(&entry).word;
                    assert!(word::finishing(word), "{name}, {hook:?}");
                    assert_eq!(word & word::TARGET_WAITS != 0, waits, "{name}, {hook:?}");
                }
            }
        }
    });
}

fn forwarded(hook: Hook) -> u32 {
    match hook {
        Hook::Tc => verdict::TC_REDIRECT,
        Hook::Xdp => verdict::XDP_REDIRECT,
    }
}
