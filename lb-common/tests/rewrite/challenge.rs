//! The challenge ACK: the SYN turned around in place, a bare ACK with the numbers
//! given, and no data of the sender in it.

use lb_common::options::Options;
use lb_common::packet::{Frame, Segment, Shape, parse};
use lb_common::rewrite::{challenge, finish_checksum};
use proptest::prelude::*;

use crate::frame::Plain;
use crate::random::flow_and_segment;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn answer(frame: &mut [u8], seq: u32, ack: u32, window: u16) -> Option<()> {
    let mut packet = Frame(frame);
    let mut segment = Segment::EMPTY;
    assert_eq!(parse(&packet, &mut segment), Shape::Segment);
    let mut room = Options::EMPTY;
    let changes = challenge(&mut packet, &segment, &mut room, seq, ack, window)?;
    finish_checksum(&mut packet, &segment, &changes)
}

proptest! {
    #[test]
    fn is_an_ack_back_to_the_sender(
        (_, mut syn, _) in flow_and_segment(), seq: u32, ack: u32, window: u16, more: u8,
    ) {
        syn.flags = (more | SYN) & !RST;
        syn.payload.clear();
        let mut frame = syn.frame();
        answer(&mut frame, seq, ack, window).expect("a bare SYN");
        let expected = Plain {
            from: syn.to,
            to: syn.from,
            // A packet of the balancer's own.
            ttl: 64,
            seq,
            ack,
            flags: ACK,
            window,
            options: vec![1; syn.options.len()],
            payload: Vec::new(),
        };
        prop_assert_eq!(Plain::read(&frame), expected);
    }

    #[test]
    fn is_refused_to_a_syn_with_data((_, mut syn, _) in flow_and_segment()) {
        syn.flags = SYN;
        syn.payload.push(1);
        prop_assert_eq!(answer(&mut syn.frame(), 1, 2, 3), None);
    }

    #[test]
    fn is_refused_to_a_reset((_, mut syn, _) in flow_and_segment()) {
        syn.flags = SYN | RST;
        syn.payload.clear();
        prop_assert_eq!(answer(&mut syn.frame(), 1, 2, 3), None);
    }
}
