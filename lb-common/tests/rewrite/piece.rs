//! TCP options, one by one.

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Nop,
    /// TSval and TSecr.
    Stamps(u32, u32),
    /// Edges, two to a block.
    Sack(Vec<u32>),
    /// Another kind, or a known one in a length that is not its own.
    Unknown(u8, Vec<u8>),
    /// The end, and bytes behind it that mean nothing.
    End(Vec<u8>),
}

impl Piece {
    /// The option on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Piece::Nop => vec![1],
            Piece::Stamps(value, echo) => {
                [&[8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
            }
            Piece::Sack(edges) => {
                let head = [5, 2 + 4 * edges.len() as u8];
                head.into_iter()
                    .chain(edges.iter().flat_map(|edge| edge.to_be_bytes()))
                    .collect()
            }
            Piece::Unknown(kind, data) => [&[*kind, 2 + data.len() as u8][..], data].concat(),
            Piece::End(behind) => [&[0][..], behind].concat(),
        }
    }
}

/// All of them on the wire, filled up with NOPs to whole words.
pub(crate) fn encode(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = pieces.iter().flat_map(Piece::bytes).collect::<Vec<u8>>();
    bytes.resize(bytes.len().next_multiple_of(4), 1);
    bytes
}
