//! Forwarding: every field as expected, checksums right, and back again.

use lb_common::flow::Side;
use proptest::prelude::*;

use crate::expected::at_target;
use crate::frame::Plain;
use crate::piece::{Piece, encode};
use crate::random::{Pair, flow_and_segment};
use crate::reference::forward;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_target_sees_every_position_in_its_own_numbers((pair, sent, pieces) in flow_and_segment()) {
        let mut frame = sent.frame();
        forward(&mut frame, &pair.client_leg(), &pair.flow(), Side::Client).expect("valid options");
        // `read` sums both checksums from scratch.
        prop_assert_eq!(Plain::read(&frame), at_target(&pair, &sent, &pieces));
    }

    /// An answer that quotes what the target was sent quotes what the client sent.
    #[test]
    fn what_the_target_quotes_is_what_the_client_said((mut pair, mut sent, pieces) in flow_and_segment()) {
        unscaled(&mut pair);
        let pieces = without_sack(&pieces);
        sent.options = encode(&pieces);
        sent.flags |= 0x10;
        let mut frame = sent.frame();
        forward(&mut frame, &pair.client_leg(), &pair.flow(), Side::Client).expect("valid options");
        let mut frame = quoted(&Plain::read(&frame), sent.ttl, &pieces, &pair).frame();
        forward(&mut frame, &pair.client_leg(), &pair.flow(), Side::Target).expect("valid options");
        let mut back = Plain::read(&frame);
        let (from, to) = (back.from, back.to);
        (back.from, back.to, back.ttl) = (to, from, back.ttl + 1);
        (back.seq, back.ack) = (back.ack, back.seq);
        back.options = encode(&pieces.iter().map(swapped).collect::<Vec<_>>())
            .eq(&back.options)
            .then(|| sent.options.clone())
            .expect("timestamps come back exchanged");
        prop_assert_eq!(back, sent);
    }

    /// Bytes behind the IP packet (Ethernet pads short frames) are not part of it.
    #[test]
    fn padding_is_neither_summed_nor_touched((pair, sent, pieces) in flow_and_segment(), padding: [u8; 7]) {
        let mut frame = sent.frame();
        let whole = frame.len();
        frame.extend(padding);
        forward(&mut frame, &pair.client_leg(), &pair.flow(), Side::Client).expect("valid options");
        prop_assert_eq!(&frame[whole..], &padding[..]);
        prop_assert_eq!(Plain::read(&frame[..whole]), at_target(&pair, &sent, &pieces));
    }
}

/// The segment a target would send that says of everything "that is what I heard":
/// positions, timestamps and addresses exchanged.
fn quoted(heard: &Plain, ttl: u8, pieces: &[Piece], pair: &Pair) -> Plain {
    let exchanged = pieces.iter().map(|piece| match piece {
        Piece::Stamps(value, echo) => Piece::Stamps(
            echo.wrapping_sub(pair.shifts.stamp[1]),
            value.wrapping_add(pair.shifts.stamp[0]),
        ),
        other => other.clone(),
    });
    Plain {
        from: heard.to,
        to: heard.from,
        ttl,
        seq: heard.ack,
        ack: heard.seq,
        options: encode(&exchanged.collect::<Vec<_>>()),
        ..heard.clone()
    }
}

fn swapped(piece: &Piece) -> Piece {
    match piece {
        Piece::Stamps(value, echo) => Piece::Stamps(*echo, *value),
        other => other.clone(),
    }
}

fn unscaled(pair: &mut Pair) {
    pair.shifts.scale_sent = [0; 2];
    pair.shifts.scale_announced = [0; 2];
}

/// SACK edges quote the other stream than the sequence number, so they do not
/// come back when both are exchanged.
fn without_sack(pieces: &[Piece]) -> Vec<Piece> {
    let nops = |piece: &Piece| match piece {
        Piece::Sack(_) => vec![Piece::Nop; piece.bytes().len()],
        other => vec![other.clone()],
    };
    pieces.iter().flat_map(nops).collect()
}
