//! The shapes of options that forwarded segments come with.

use super::piece::{Piece, encode};

/// Name and options.
pub(super) fn options() -> Vec<(&'static str, Vec<u8>)> {
    use Piece::{End, Nop, Sack, Stamps, Unknown};
    let stamps = || Stamps(0xffff_ff00, 0x8000_0001);
    let sack = |blocks: u32| {
        Sack(
            (0..blocks * 2)
                .map(|edge| 0xffff_fff0u32.wrapping_add(edge * 3))
                .collect(),
        )
    };
    let table = [
        ("none", vec![]),
        ("timestamps", vec![Nop, Nop, stamps()]),
        ("timestamps behind", vec![stamps(), Nop, Nop]),
        ("timestamps at an odd offset", vec![Nop, stamps(), Nop]),
        (
            "timestamps, one block",
            vec![Nop, Nop, stamps(), Nop, Nop, sack(1)],
        ),
        (
            "timestamps, two blocks",
            vec![Nop, Nop, stamps(), Nop, Nop, sack(2)],
        ),
        (
            "timestamps, three blocks",
            vec![Nop, Nop, stamps(), Nop, Nop, sack(3)],
        ),
        ("four blocks", vec![Nop, Nop, sack(4)]),
        ("one block at an odd offset", vec![Nop, sack(1), Nop]),
        (
            "unknown at odd lengths",
            vec![Unknown(253, vec![7; 3]), stamps(), Unknown(254, vec![9])],
        ),
        ("end", vec![stamps(), End(vec![8])]),
        ("forty NOPs", vec![Nop; 40]),
    ];
    table.map(|(name, pieces)| (name, encode(&pieces))).to_vec()
}
