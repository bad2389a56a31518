//! Any bytes at all: no panic, and whatever is called a segment lies within them.

use lb_common::flow::{Family, Flow, Side, Tuple};
use lb_common::options::Options;
use lb_common::packet::{Frame, Oddity, Segment, Shape, TCP, parse};
use lb_common::rewrite::{challenge, timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::frame::Plain;
use crate::random::flow_and_segment;
use crate::reference::forward;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn arbitrary_bytes(mut frame in vec(any::<u8>(), 0..200), ethertype in ethertype(), tcp: bool) {
        if let Some(place) = frame.get_mut(12..14) {
            place.copy_from_slice(&ethertype.to_be_bytes());
        }
        for at in [20, 23].into_iter().filter(|_| tcp) {
            frame.get_mut(at).into_iter().for_each(|protocol| *protocol = 6);
        }
        exercise(&mut frame)?;
    }

    /// Nearly valid is where parsers go wrong: one byte changed, the end cut off.
    #[test]
    fn damaged_segments((_, sent, _) in flow_and_segment(), at: usize, to: u8, keep: usize) {
        let mut frame = sent.frame();
        let at = at % frame.len();
        frame[at] = to;
        frame.truncate(keep % (frame.len() + 1));
        exercise(&mut frame)?;
    }

    #[test]
    fn whole_segments((_, sent, _) in flow_and_segment()) {
        let mut frame = sent.frame();
        let mut segment = Segment::EMPTY;
        prop_assert_eq!(parse(&Frame(&mut frame), &mut segment), Shape::Segment);
        prop_assert_eq!(segment.payload as usize, sent.payload.len());
        prop_assert_eq!(segment.header(), TCP + sent.options.len());
        let fields = (segment.seq, segment.ack, segment.flags, segment.window, segment.ttl);
        prop_assert_eq!(fields, (sent.seq, sent.ack, sent.flags, sent.window, sent.ttl));
        let syn_and_fin = (sent.flags & 2 != 0) as u32 + (sent.flags & 1 != 0) as u32;
        prop_assert_eq!(segment.length(), segment.payload + syn_and_fin);
    }
}

/// A packet that is yet to be cut into segments may be longer than its length field
/// can say; it says zero then, and lies if the packet is not that long.
#[test]
fn longer_than_the_length_field() {
    for [from, to] in [["10.0.0.1:1", "10.0.0.2:2"], ["[fd00::1]:1", "[fd00::2]:2"]] {
        for (payload, expected) in [
            (200_000, Shape::Segment),
            (0x10000, Shape::Segment),
            (1_000, Shape::Odd(Oddity::Malformed)),
            (1 << 20, Shape::Odd(Oddity::Malformed)),
        ] {
            let plain = Plain {
                from: from.parse().expect("an address"),
                to: to.parse().expect("an address"),
                ttl: 9,
                seq: 1,
                ack: 2,
                flags: 0x10,
                window: 3,
                options: vec![1; 12],
                payload: vec![0; payload],
            };
            let mut frame = plain.frame();
            let at = if plain.from.is_ipv4() { 16 } else { 18 };
            frame[at..at + 2].fill(0);
            let mut segment = Segment::EMPTY;
            assert_eq!(parse(&Frame(&mut frame), &mut segment), expected);
            if expected == Shape::Segment {
                assert_eq!(segment.payload as usize, payload);
            }
        }
    }
}

fn ethertype() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0x0800), Just(0x86dd), any::<u16>()]
}

fn exercise(frame: &mut [u8]) -> Result<(), TestCaseError> {
    let before = frame.to_vec();
    let mut segment = Segment::EMPTY;
    let shape = parse(&Frame(frame), &mut segment);
    prop_assert_eq!(&before[..], &*frame, "reading writes nothing");
    if shape != Shape::Segment {
        return Ok(());
    }
    prop_assert!(segment.tcp() + TCP <= frame.len());
    prop_assert!((TCP..=60).contains(&segment.header()));
    let length = match segment.family {
        Family::V4 => u16::from_be_bytes([frame[16], frame[17]]) as usize - 20,
        Family::V6 => u16::from_be_bytes([frame[18], frame[19]]) as usize,
    };
    prop_assert_eq!(segment.header() + segment.payload as usize, length);
    timestamp(&Frame(frame), &segment, &mut Options::EMPTY.clone());
    challenge(
        &mut Frame(&mut before.clone()),
        &segment,
        &mut Options::EMPTY.clone(),
        1,
        2,
        3,
    );
    forward(frame, &Tuple::default(), &Flow::default(), Side::Client);
    Ok(())
}
