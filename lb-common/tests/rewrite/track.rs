//! Which numbers are believed, around every bound and across the wrap of 2^32.

use lb_common::flow::{Flow, Half, Shifts, Side};
use lb_common::packet::{Segment, flags};
use lb_common::track::{
    OBSERVED_WINDOW, WINDOW_SLACK, all_acknowledged, fits_committed, fits_observed, reset_expected,
};

/// Starts whose neighbourhood lies before, on and behind the wrap.
const STARTS: [u32; 4] = [0x1000_0000, 0, u32::MAX, u32::MAX - OBSERVED_WINDOW / 2];
/// How far back a number may lie.
const PAST: u32 = 1 << 30;

fn segment(seq: u32, payload: u32, flags: u8, ack: u32) -> Segment {
    Segment {
        seq,
        payload,
        flags,
        ack,
        ..Segment::EMPTY
    }
}

#[test]
fn observed_segments() {
    // Name, start of the segment from what was recorded, its length, ack likewise.
    const TABLE: [(&str, i64, u32, i64, bool); 9] = [
        ("next", 0, 100, 0, true),
        ("a retransmission", -500, 100, 0, true),
        ("a keepalive", -1, 0, 0, true),
        (
            "the end of the window",
            OBSERVED_WINDOW as i64 - 9,
            9,
            0,
            true,
        ),
        ("beyond it", OBSERVED_WINDOW as i64 - 9, 10, 0, false),
        ("as old as may be", -(PAST as i64), 0, 0, true),
        ("older", -(PAST as i64) - 1, 0, 0, false),
        ("an ack from long ago", 0, 1, -(PAST as i64) - 1, false),
        ("an ack too far ahead", 0, 1, PAST as i64 + 1, false),
    ];
    for start in STARTS {
        let ack = start ^ 0x5555_0000;
        for (name, seq, payload, step, expected) in TABLE {
            let segment = segment(moved(start, seq), payload, flags::ACK, moved(ack, step));
            assert_eq!(
                fits_observed(&segment, start, ack),
                expected,
                "{name} at {start:x}"
            );
        }
        let bare = segment(start, 1, flags::RST, moved(ack, 1 << 31));
        assert!(
            fits_observed(&bare, start, ack),
            "without ACK the field means nothing"
        );
    }
}

/// A committed flow at rest: client and target have both acknowledged everything.
fn at_rest(start: u32, scale: u8) -> (Flow, u32, u32) {
    let (client, target) = (start, start.wrapping_mul(3).wrapping_add(7));
    let seq = [0x9000_0001, 0x2345_6789];
    let shifts = Shifts {
        seq,
        scale_sent: [0, scale],
        ..Shifts::default()
    };
    let flow = Flow {
        shifts,
        halves: [
            Half {
                passed_end: client,
                last_ack: target.wrapping_add(seq[1]),
                window: 500,
                stamp: 0,
            },
            Half {
                passed_end: target,
                last_ack: client.wrapping_add(seq[0]),
                window: 1000,
                stamp: 0,
            },
        ],
        ..Flow::default()
    };
    // What the client's next segment carries: its position, and the target's in
    // the client leg's numbers.
    (flow, client, target.wrapping_add(seq[1]))
}

#[test]
fn committed_segments() {
    const WINDOW: i64 = (1000 << 4) + WINDOW_SLACK as i64;
    const TABLE: [(&str, i64, u32, i64, bool); 8] = [
        ("next", 0, 100, 0, true),
        ("the end of the target's window", WINDOW - 9, 9, 0, true),
        ("beyond it", WINDOW - 9, 10, 0, false),
        ("a retransmission", -500, 100, 0, true),
        ("as old as may be", -(PAST as i64), 0, 0, true),
        ("older", -(PAST as i64) - 1, 0, 0, false),
        ("an old ack", 0, 1, -1000, true),
        ("an ack of what was never sent", 0, 1, 1, false),
    ];
    for start in STARTS {
        let (flow, seq, ack) = at_rest(start, 4);
        for (name, step, payload, ack_step, expected) in TABLE {
            let segment = segment(moved(seq, step), payload, flags::ACK, moved(ack, ack_step));
            let fits = fits_committed(&flow, Side::Client, &segment);
            assert_eq!(fits, expected, "{name} at {start:x}");
        }
    }
}

#[test]
fn the_widest_window_there_can_be_does_not_overflow() {
    let (mut flow, seq, ack) = at_rest(u32::MAX, 14);
    flow.halves[1].window = 0xffff;
    let reach = (0xffff << 14) + WINDOW_SLACK;
    assert!(fits_committed(
        &flow,
        Side::Client,
        &segment(seq, reach, flags::ACK, ack)
    ));
    assert!(!fits_committed(
        &flow,
        Side::Client,
        &segment(seq, reach + 1, flags::ACK, ack)
    ));
}

#[test]
fn a_reset_must_be_where_its_receiver_stands() {
    for start in STARTS {
        let (flow, client, _) = at_rest(start, 0);
        assert_eq!(reset_expected(&flow, Side::Client), client);
        assert_eq!(
            reset_expected(&flow, Side::Target),
            flow.halves[1].passed_end
        );
    }
}

#[test]
fn all_is_acknowledged_when_the_last_byte_is() {
    for start in STARTS {
        let (mut flow, client, _) = at_rest(start, 0);
        assert!(all_acknowledged(&flow, Side::Client) && all_acknowledged(&flow, Side::Target));
        flow.halves[0].passed_end = client.wrapping_add(1);
        assert!(
            !all_acknowledged(&flow, Side::Client),
            "a FIN under way at {start:x}"
        );
        flow.halves[1].last_ack = flow.halves[1].last_ack.wrapping_add(1);
        assert!(all_acknowledged(&flow, Side::Client), "and acknowledged");
    }
}

fn moved(from: u32, by: i64) -> u32 {
    (i64::from(from) + by) as u32
}
