//! While observing every packet is the stack's, untouched; the program only keeps
//! what the handoff is decided on.

use lb_common::flow::{Flow, Half, Side};
use lb_common::word::{self, FIN, RST, SEEN, STAMPED};

use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::piece::{Piece, encode};
use super::run::{Hook, verdict};
use super::sample::{self, ACK, HOOKS, PSH, SIDES, SYN, direction, interface, samples};

/// One packet: name, flags, distance from the first position, payload, TSval.
type Row = (&'static str, u8, u32, usize, Option<u32>);
/// What is known after it: flags and count in the word, end, last ack, window, TSval.
type Known = (u64, u64, u32, u32, u32, u32);

const START: u32 = 0xffff_fff8;
const ACKED: u32 = 0x7fff_ffff;
const FAR: u32 = 1 << 20;

/// One connection's packets of one side, in order. The acknowledgment number goes up
/// by one with each, the window is a hundred more.
const STORY: [(Row, Known); 13] = [
    (("SYN", SYN, 0, 0, Some(1)), (0, 1, 0, 0, 0, 0)),
    (
        ("first ACK", ACK, 1, 0, Some(2)),
        (SEEN | STAMPED, 1, 1, 1, 101, 2),
    ),
    (
        ("data", PSH | ACK, 1, 10, Some(3)),
        (SEEN | STAMPED, 2, 11, 2, 102, 3),
    ),
    (
        ("pure ACK", ACK, 11, 0, Some(4)),
        (SEEN | STAMPED, 2, 11, 3, 103, 4),
    ),
    (
        ("old data", PSH | ACK, 1, 10, Some(3)),
        (SEEN | STAMPED, 3, 11, 4, 104, 4),
    ),
    (
        ("no timestamp", PSH | ACK, 11, 5, None),
        (SEEN | STAMPED, 4, 16, 5, 105, 4),
    ),
    (
        ("no ACK flag", PSH, 16, 4, None),
        (SEEN | STAMPED, 5, 20, 5, 105, 4),
    ),
    (
        ("keepalive", ACK, 19, 0, Some(5)),
        (SEEN | STAMPED, 5, 20, 7, 107, 5),
    ),
    (
        ("far data", PSH | ACK, 20 + FAR, 1, Some(99)),
        (SEEN | STAMPED, 6, 20, 7, 107, 5),
    ),
    (
        ("far reset", sample::RST, 21 + FAR, 0, None),
        (SEEN | STAMPED, 7, 20, 7, 107, 5),
    ),
    (
        ("hole", PSH | ACK, 100, 50, Some(6)),
        (SEEN | STAMPED, 8, 150, 10, 110, 6),
    ),
    (
        ("FIN", sample::FIN | ACK, 150, 0, Some(7)),
        (SEEN | STAMPED | FIN, 9, 151, 11, 111, 7),
    ),
    (
        ("RST", sample::RST, 151, 0, None),
        (SEEN | STAMPED | FIN | RST, 10, 151, 11, 111, 7),
    ),
];

#[test]
fn a_connection_packet_by_packet() {
    with_kernel(|kernel| {
        for sample in samples() {
            for (hook, side) in HOOKS
                .into_iter()
                .flat_map(|hook| SIDES.map(|side| (hook, side)))
            {
                let entry = sample.observing();
                kernel.put(&entry);
                for (number, (row, known)) in STORY.into_iter().enumerate() {
                    let segment = segment(&sample.segment(side), &row, number as u32);
                    passes(kernel, hook, side, &segment, row.0);
                    let flow = kernel.flow(&entry);
                    recorded(
                        &flow,
                        side,
                        known,
                        &format!("{}, {hook:?}, {side:?}", row.0),
                    );
                }
                let ifindex = kernel.flow(&entry).shifts.ifindex[side.index()];
                assert_eq!(ifindex, interface(kernel, side), "the way back is known");
            }
        }
    });
}

/// A client's SYN says nothing the daemon could compare, a target's SYN and ACK does.
#[test]
fn a_syn_with_ack_is_recorded_but_for_its_unscaled_window() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.observing();
            kernel.put(&entry);
            let row = ("SYN and ACK", SYN | ACK, 0, 0, Some(5));
            let segment = segment(&sample.segment(Side::Target), &row, 0);
            passes(kernel, Hook::Tc, Side::Target, &segment, row.0);
            recorded(
                &kernel.flow(&entry),
                Side::Target,
                (SEEN | STAMPED, 1, 1, 0, 0, 5),
                row.0,
            );
        }
    });
}

#[test]
fn timestamps_are_found_wherever_they_stand() {
    use Piece::{Nop, Sack, Stamps};
    with_kernel(|kernel| {
        let [sample, _] = samples();
        let table = [
            ("odd", vec![Nop, Stamps(77, 1), Nop], true),
            ("behind blocks", vec![Sack(vec![1, 2]), Stamps(77, 1)], true),
            (
                "before a bad option",
                vec![Stamps(77, 1), Piece::Unknown(4, vec![])],
                true,
            ),
            (
                "behind the end",
                vec![Piece::End([8, 10].into_iter().chain([0; 9]).collect())],
                false,
            ),
            (
                "in another length",
                vec![Piece::Unknown(8, vec![0, 0, 0, 77])],
                false,
            ),
        ];
        for (name, pieces, found) in table {
            let entry = sample.observing();
            kernel.put(&entry);
            let segment = Plain {
                options: encode(&pieces),
                ..sample.segment(Side::Client)
            };
            kernel.packet(Hook::Tc, &segment.frame());
            let flow = kernel.flow(&entry);
            assert_eq!(flow.word & STAMPED != 0, found, "{name}");
            assert_eq!(flow.halves[0].stamp, if found { 77 } else { 0 }, "{name}");
        }
    });
}

/// The stack's business: hop limits, and what it will find malformed itself.
#[test]
fn nothing_observed_is_dropped() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.observing());
            let next = sample.segment(Side::Client);
            let bad = Plain {
                options: vec![8, 0, 1, 1],
                ..next.clone()
            };
            for segment in [Plain { ttl: 1, ..next }, bad] {
                passes(kernel, Hook::Tc, Side::Client, &segment, "odd but whole");
            }
        }
    });
}

fn segment(like: &Plain, row: &Row, number: u32) -> Plain {
    let (_, flags, seq, payload, stamp) = *row;
    let stamps = |value| encode(&[Piece::Nop, Piece::Nop, Piece::Stamps(value, 0)]);
    Plain {
        flags,
        seq: START.wrapping_add(seq),
        ack: ACKED.wrapping_add(number),
        window: 100 + number as u16,
        options: stamp.map(stamps).unwrap_or_default(),
        payload: vec![b'x'; payload],
        ..like.clone()
    }
}

fn passes(kernel: &Kernel, hook: Hook, side: Side, segment: &Plain, name: &str) {
    let frame = segment.frame();
    let run = kernel.packet_from(hook, &frame, interface(kernel, side));
    let pass = match hook {
        Hook::Tc => verdict::TC_OK,
        Hook::Xdp => verdict::XDP_PASS,
    };
    assert_eq!((run.verdict, &run.packet), (pass, &frame), "{name}");
    assert_eq!(run.counted, [(direction(side), "observed")], "{name}");
}

fn recorded(flow: &Flow, side: Side, known: Known, name: &str) {
    let (flags, count, end, ack, window, stamp) = known;
    assert_eq!(
        flow.word,
        word::of(side, flags) | (count * word::PACKET),
        "{name}"
    );
    let half = match flags & SEEN {
        0 => Half::default(),
        _ => Half {
            passed_end: START.wrapping_add(end),
            last_ack: ACKED.wrapping_add(ack),
            window,
            stamp,
        },
    };
    assert_eq!(flow.halves[side.index()], half, "{name}");
    assert_eq!(flow.halves[side.other().index()], Half::default(), "{name}");
    assert_eq!(
        (flow.packets, flow.bytes),
        ([0; 2], [0; 2]),
        "{name}: not the program's work"
    );
}
