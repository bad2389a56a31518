//! The judgment of a handoff: every reason to refuse, and the constants of a yes.

use lb_common::flow::{BLANK_SACK, Flow, Half, Shifts, Side};
use lb_common::word;

use super::super::judge::{Leg, PROMISED_WINDOW, judge, unobserved};
use super::super::socket::{Positions, option};
use super::super::types::{Handoff, Refusal};

const NEVER: fn(Refusal) -> Result<Shifts, Handoff> = |refusal| Err(Handoff::Never(refusal));
const NOT_NOW: fn(Refusal) -> Result<Shifts, Handoff> = |refusal| Err(Handoff::NotNow(refusal));
const ESTABLISHED: u8 = 1;

/// Everything that is read for one judgment.
#[derive(Clone, Copy)]
struct Case {
    flow: Flow,
    client: Leg,
    target: Leg,
}

/// Two legs at rest; numbers chosen to wrap.
fn at_rest() -> Case {
    let leg = |received, sent, clock| Leg {
        at: Positions {
            received,
            sent,
            unread: 0,
            unacknowledged: 0,
        },
        ahead: 0,
        state: ESTABLISHED,
        options: option::TIMESTAMPS | option::SACK,
        peer_scale: 7,
        own_scale: 9,
        send_mss: 1448,
        announced_mss: 1460,
        clock,
    };
    let (client, target) = (leg(100, 0xffff_fff0, 5_000), leg(7, 3_000_000_000, 10));
    let half = |leg: &Leg, stamp| Half {
        passed_end: leg.at.received,
        last_ack: leg.at.sent,
        window: PROMISED_WINDOW >> 7,
        stamp,
    };
    let seen = word::SEEN | word::STAMPED;
    let mut flow = Flow {
        word: seen | seen << word::TARGET_SHIFT | 4,
        ..Flow::default()
    };
    flow.halves = [half(&client, 1_000), half(&target, 0xffff_0000)];
    flow.shifts.ifindex = [3, 4];
    Case {
        flow,
        client,
        target,
    }
}

#[test]
fn a_yes_has_the_constants_of_both_directions() {
    let Case {
        flow,
        client,
        target,
    } = at_rest();
    let expected = Shifts {
        // What the target is sent next less what comes from the client next, and the mirror.
        seq: [3_000_000_000 - 100, 0xffff_fff0 - 7],
        // The clock the peer knows as ours less the last stamp of the other.
        stamp: [
            10u32.wrapping_sub(1_000),
            5_000u32.wrapping_sub(0xffff_0000),
        ],
        scale_sent: [7, 7],
        scale_announced: [9, 9],
        ifindex: [3, 4],
    };
    assert_eq!(judge(&flow, &client, &target), Ok(expected));
}

#[test]
fn options_that_can_be_made_alike() {
    for (client, target, blanks) in [
        (true, false, [BLANK_SACK, 0]),
        (false, true, [0, BLANK_SACK]),
    ] {
        let mut case = at_rest();
        let sack = |negotiated| if negotiated { option::SACK } else { 0 };
        case.client.options = sack(client);
        case.target.options = sack(target);
        // No room in a segment is taken by timestamps.
        case.client.send_mss = 1460;
        case.target.send_mss = 1460;
        let shifts = judge(&case.flow, &case.client, &case.target).expect("a yes");
        assert_eq!(shifts.scale_announced, [9 | blanks[0], 9 | blanks[1]]);
        assert_eq!(
            shifts.stamp,
            [0, 0],
            "without timestamps nothing is shifted"
        );
    }
}

/// One change to a pair at rest, for whichever leg or half it is made on.
type Change = fn(&mut Flow, &mut Leg, Side);

#[test]
fn every_refusal_on_either_leg() {
    let table: [(&str, Change, Result<Shifts, Handoff>); 19] = [
        (
            "ECN",
            |_, leg, _| leg.options |= option::ECN,
            NEVER(Refusal::Options),
        ),
        (
            "microseconds",
            |_, leg, _| leg.options |= option::USEC_TS,
            NEVER(Refusal::Options),
        ),
        (
            "no timestamps",
            |_, leg, _| leg.options ^= option::TIMESTAMPS,
            NEVER(Refusal::Options),
        ),
        (
            "smaller segments",
            |_, leg, _| leg.send_mss -= 1,
            NEVER(Refusal::Mtu),
        ),
        (
            "larger announced",
            |_, leg, _| leg.announced_mss += 1,
            NEVER(Refusal::Mtu),
        ),
        (
            "closing socket",
            |_, leg, _| leg.state = 8,
            NEVER(Refusal::Pending),
        ),
        (
            "FIN",
            |flow, _, side| flow.word |= word::of(side, word::FIN),
            NEVER(Refusal::Pending),
        ),
        (
            "RST",
            |flow, _, side| flow.word |= word::of(side, word::RST),
            NEVER(Refusal::Pending),
        ),
        (
            "untracked",
            |flow, _, _| flow.word |= word::UNTRACKED,
            NEVER(Refusal::Unobserved),
        ),
        (
            "unread",
            |_, leg, _| leg.at.unread = 1,
            NOT_NOW(Refusal::Pending),
        ),
        (
            "passed on and read",
            |_, leg, _| leg.ahead = 1,
            NOT_NOW(Refusal::Pending),
        ),
        (
            "unacknowledged",
            |_, leg, _| leg.at.unacknowledged = 1,
            NOT_NOW(Refusal::Pending),
        ),
        (
            "unseen",
            |flow, _, side| flow.word &= !word::of(side, word::SEEN),
            NEVER(Refusal::Unobserved),
        ),
        (
            "no stamp",
            |flow, _, side| flow.word &= !word::of(side, word::STAMPED),
            NEVER(Refusal::Unobserved),
        ),
        (
            "more passed",
            |flow, _, side| flow.halves[side.index()].passed_end += 1,
            NOT_NOW(Refusal::Pending),
        ),
        (
            "less passed",
            |flow, _, side| flow.halves[side.index()].passed_end -= 1,
            NOT_NOW(Refusal::Pending),
        ),
        (
            "older ack",
            |flow, _, side| flow.halves[side.index()].last_ack -= 1,
            NOT_NOW(Refusal::Pending),
        ),
        (
            "small window",
            |flow, _, side| flow.halves[side.index()].window = 255,
            NOT_NOW(Refusal::Window),
        ),
        (
            "no window",
            |flow, _, side| flow.halves[side.index()].window = 0,
            NOT_NOW(Refusal::Window),
        ),
    ];
    for (name, change, expected) in table {
        for side in [Side::Client, Side::Target] {
            let mut case = at_rest();
            let leg = match side {
                Side::Client => &mut case.client,
                Side::Target => &mut case.target,
            };
            change(&mut case.flow, leg, side);
            let judged = judge(&case.flow, &case.client, &case.target);
            assert_eq!(judged, expected, "{name}, {side:?}");
        }
    }
}

/// A held stream: its bytes are with the other side, though still in the queue.
#[test]
fn unread_bytes_that_were_passed_on_are_no_reason() {
    for side in [Side::Client, Side::Target] {
        let mut case = at_rest();
        let rest = judge(&case.flow, &case.client, &case.target);
        let leg = match side {
            Side::Client => &mut case.client,
            Side::Target => &mut case.target,
        };
        leg.at.unread = PROMISED_WINDOW;
        leg.ahead = PROMISED_WINDOW;
        let judged = judge(&case.flow, &case.client, &case.target);
        assert_eq!(judged, rest, "{side:?}");
        assert!(judged.is_ok());
    }
}

/// What holds for good is said before what may pass: else it would be tried again.
#[test]
fn a_lasting_reason_comes_before_a_passing_one() {
    let mut case = at_rest();
    case.client.at.unread = 1;
    case.target.options |= option::ECN;
    let judged = judge(&case.flow, &case.client, &case.target);
    assert_eq!(judged, NEVER(Refusal::Options));
}

#[test]
fn what_was_seen_since_the_word_was_read_is_not_unobserved() {
    let before = word::STAMPED | word::SEEN;
    let since = before | word::SEEN << word::TARGET_SHIFT;
    assert_eq!(unobserved(before, since), Handoff::NotNow(Refusal::Pending));
    assert_eq!(
        unobserved(before, before),
        Handoff::Never(Refusal::Unobserved)
    );
}
