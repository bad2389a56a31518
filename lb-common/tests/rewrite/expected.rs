//! What a forwarded segment must say, from the rules of the handoff in words.

use lb_common::flow::BLANK_SACK;

use crate::frame::Plain;
use crate::piece::Piece;
use crate::random::Pair;

const ACK: u8 = 0x10;

/// A segment of the client as the target must see it.
pub(crate) fn at_target(pair: &Pair, sent: &Plain, pieces: &[Piece]) -> Plain {
    let shifts = &pair.shifts;
    Plain {
        from: pair.far,
        to: pair.target,
        ttl: sent.ttl - 1,
        seq: sent.seq.wrapping_add(shifts.seq[0]),
        ack: match sent.flags & ACK {
            0 => sent.ack,
            _ => sent.ack.wrapping_sub(shifts.seq[1]),
        },
        flags: sent.flags,
        window: window(sent.window, shifts.scale_sent[0], shifts.scale_announced[1]),
        options: pieces
            .iter()
            .flat_map(|piece| option(pair, piece))
            .collect(),
        payload: sent.payload.clone(),
    }
}

/// In whole units of what the receiver was told.
fn window(field: u16, sent: u8, announced: u8) -> u16 {
    let bytes = u64::from(field) * (1 << sent);
    u16::try_from(bytes / (1 << announced)).unwrap_or(u16::MAX)
}

fn option(pair: &Pair, piece: &Piece) -> Vec<u8> {
    let shifts = &pair.shifts;
    let blank = shifts.scale_announced[0] & BLANK_SACK != 0;
    match piece {
        Piece::Stamps(value, echo) => Piece::Stamps(
            value.wrapping_add(shifts.stamp[0]),
            echo.wrapping_sub(shifts.stamp[1]),
        )
        .bytes(),
        Piece::Sack(_) if blank => vec![1; piece.bytes().len()],
        Piece::Sack(edges) => Piece::Sack(
            edges
                .iter()
                .map(|edge| edge.wrapping_sub(shifts.seq[1]))
                .collect(),
        )
        .bytes(),
        Piece::Nop | Piece::Unknown(..) | Piece::End(_) => piece.bytes(),
    }
}
