//! Any frame is parsed and rewritten without a panic, and what comes out is what was
//! said, in the other leg's terms: no payload changed, nothing longer or shorter.
//!
//! The first bytes of the input are the flow's constants, the rest is the frame.

use lb_common::flow::{Address, BLANK_SACK, Flow, SCALE_MASK, Shifts, Side, Tuple};
use lb_common::icmp;
use lb_common::options::Options;
use lb_common::packet::{ETHERNET, Frame, Packet, Segment, Shape, parse};
use lb_common::rewrite::{Translation, challenge, finish_checksum, rewrite, timestamp};

/// Bytes of the input before the frame.
const CONSTANTS: usize = 20;

/// Panics where parser or rewrite is wrong.
pub(crate) fn check(input: &[u8]) {
    let Some((constants, frame)) = input.split_first_chunk::<CONSTANTS>() else {
        return;
    };
    let (side, flow) = flow(constants);
    let mut bytes = frame.to_vec();
    let mut segment = Segment::EMPTY;
    let shape = parse(&Frame(&mut bytes), &mut segment);
    assert_eq!(bytes, frame, "reading writes nothing");
    let client = leg([10, 1]);
    let translation = Translation::new(&client, &flow, side);
    match shape {
        Shape::Segment => {
            forwarded(frame, &segment, &translation);
            answered(frame, &segment);
            refused(frame, &segment);
        }
        Shape::Report(_) => reported(frame, &segment, shape, &translation),
        Shape::Other | Shape::Odd(_) | Shape::Cut => {}
    }
}

fn forwarded(frame: &[u8], segment: &Segment, translation: &Translation<'_>) {
    let mut bytes = frame.to_vec();
    timestamp(&Frame(&mut bytes), segment, &mut Options::EMPTY.clone());
    let mut packet = Frame(&mut bytes);
    let Some(changes) = rewrite(
        &mut packet,
        segment,
        &mut Options::EMPTY.clone(),
        translation,
    ) else {
        return;
    };
    finish_checksum(&mut packet, segment, &changes).expect("a segment has a checksum");
    let payload = (segment.tcp() + segment.header()).min(frame.len());
    assert_eq!(bytes[payload..], frame[payload..], "the payload");
    let mut after = Segment::EMPTY;
    assert_eq!(parse(&Frame(&mut bytes), &mut after), Shape::Segment);
    assert_eq!(after.key.tuple, translation.leg.reversed(), "the other leg");
    assert_eq!(after.seq, segment.seq.wrapping_add(translation.seq));
    let same = |segment: &Segment| (segment.flags, segment.offset, segment.payload);
    assert_eq!(same(&after), same(segment), "what is not translated");
}

fn answered(frame: &[u8], segment: &Segment) {
    let mut bytes = frame.to_vec();
    let mut packet = Frame(&mut bytes);
    let mut room = Options::EMPTY;
    if challenge(&mut packet, segment, &mut room, 1, 2, 3).is_none() {
        return;
    }
    let mut after = Segment::EMPTY;
    assert_eq!(parse(&Frame(&mut bytes), &mut after), Shape::Segment);
    assert_eq!(
        after.key.tuple,
        segment.key.tuple.reversed(),
        "back to its sender"
    );
    assert_eq!((after.seq, after.ack, after.window), (1, 2, 3));
}

/// As the kernel side does: cut, make room, fill it.
fn refused(frame: &[u8], segment: &Segment) {
    let mut bytes = frame[..icmp::quoted(segment.family)].to_vec();
    let room = icmp::room(segment.family);
    bytes.splice(ETHERNET..ETHERNET, std::iter::repeat_n(0, room));
    let made = icmp::too_big(&mut Frame(&mut bytes), segment, 1300, true);
    made.expect("the room was made");
    assert_eq!(
        bytes[ETHERNET + room..],
        frame[ETHERNET..icmp::quoted(segment.family)]
    );
}

fn reported(frame: &[u8], segment: &Segment, shape: Shape, translation: &Translation<'_>) {
    let mut bytes = frame.to_vec();
    let translated = icmp::translate(&mut Frame(&mut bytes), segment, translation);
    translated.expect("everything it quotes was there");
    let mut after = Segment::EMPTY;
    assert_eq!(
        parse(&Frame(&mut bytes), &mut after),
        shape,
        "of the same kind"
    );
    assert_eq!(
        after.key.tuple,
        translation.leg.reversed(),
        "about the other leg"
    );
    assert_eq!(after.seq, segment.seq.wrapping_add(translation.ack));
}

fn flow(constants: &[u8; CONSTANTS]) -> (Side, Flow) {
    let word =
        |at: usize| u32::from_ne_bytes(Frame(&mut constants.clone()).load(at).expect("four"));
    let [.., first, second, third, fourth] = *constants;
    let side = if fourth & 0x80 == 0 {
        Side::Client
    } else {
        Side::Target
    };
    let flow = Flow {
        target: leg([10, 2]),
        shifts: Shifts {
            seq: [word(0), word(4)],
            stamp: [word(8), word(12)],
            scale_sent: [first & SCALE_MASK, second & SCALE_MASK],
            scale_announced: [third & (SCALE_MASK | BLANK_SACK), fourth & SCALE_MASK],
            ifindex: [0; 2],
        },
        ..Flow::default()
    };
    (side, flow)
}

fn leg([first, second]: [u8; 2]) -> Tuple {
    let address = |last| Address::v4(u32::from_ne_bytes([first, second, 0, last]));
    Tuple {
        peer: address(2),
        local: address(1),
        peer_port: 40_000u16.to_be(),
        local_port: 80u16.to_be(),
    }
}
