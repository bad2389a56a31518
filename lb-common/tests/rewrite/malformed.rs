//! Options that overrun the header or contradict themselves are refused, wherever
//! they stand and whatever an earlier packet left in the buffer.

use std::net::SocketAddr;

use lb_common::flow::{Flow, Side, Tuple};
use lb_common::options::Options;
use lb_common::packet::{Frame, Segment, Shape, parse};
use lb_common::rewrite::{Translation, rewrite, timestamp};

use crate::frame::Plain;
use crate::reference::forward;

const TABLE: [(&str, &[u8]); 10] = [
    ("length zero", &[8, 0, 1, 1]),
    ("length one", &[1, 3, 1, 1]),
    ("one byte too long", &[1, 8, 4, 1]),
    ("longer than any header", &[8, 255, 1, 1]),
    ("a kind and nothing more", &[1, 1, 1, 8]),
    ("an unknown kind and nothing more", &[1, 1, 1, 253]),
    ("timestamps cut off", &[1, 1, 8, 10, 0, 0, 0, 1]),
    ("SACK cut off", &[1, 1, 5, 10, 0, 0, 0, 1]),
    ("SACK with half an edge", &[5, 8, 0, 0, 0, 1, 0, 0]),
    (
        "bad behind good",
        &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 4, 1, 1, 1],
    ),
];

fn plain(options: &[u8]) -> Plain {
    let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
    Plain {
        from: address(1),
        to: address(2),
        ttl: 64,
        seq: 1,
        ack: 2,
        flags: 0x10,
        window: 3,
        options: options.to_vec(),
        payload: b"data".to_vec(),
    }
}

#[test]
fn is_refused() {
    for (name, options) in TABLE {
        let mut frame = plain(options).frame();
        let done = forward(
            &mut frame,
            &Tuple::default(),
            &Flow::default(),
            Side::Client,
        );
        assert_eq!(done, None, "{name}");
    }
}

/// The buffer is kept from packet to packet in the kernel. What an earlier packet
/// left behind the end of this one's options must not complete them.
#[test]
fn is_refused_after_any_earlier_packet() {
    for (name, options) in TABLE {
        for earlier in 0..=255 {
            let mut room = Options::EMPTY;
            walk(
                &[253u8; 2]
                    .iter()
                    .chain(&[earlier; 38])
                    .copied()
                    .collect::<Vec<_>>(),
                &mut room,
            );
            assert_eq!(walk(options, &mut room), None, "{name} after {earlier}");
        }
    }
}

/// A bad option says nothing about a timestamp before it: it is only looked for.
#[test]
fn leaves_the_timestamp_before_it_readable() {
    let (_, options) = TABLE[9];
    let mut frame = plain(options).frame();
    let packet = Frame(&mut frame);
    let mut segment = Segment::EMPTY;
    assert_eq!(parse(&packet, &mut segment), Shape::Segment);
    assert_eq!(
        timestamp(&packet, &segment, &mut Options::EMPTY.clone()),
        Some(1)
    );
}

fn walk(options: &[u8], room: &mut Options) -> Option<()> {
    let mut frame = plain(options).frame();
    let mut packet = Frame(&mut frame);
    let mut segment = Segment::EMPTY;
    assert_eq!(parse(&packet, &mut segment), Shape::Segment);
    let flow = Flow::default();
    let client = Tuple::default();
    let translation = Translation::new(&client, &flow, Side::Client);
    rewrite(&mut packet, &segment, room, &translation).map(drop)
}
