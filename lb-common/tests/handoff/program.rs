//! The kernel program as the model needs it: records, word, and the constants.

use crate::endpoint::Segment;

/// What it keeps of a flow, by the side packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    /// Whether the word has changed since the daemon read it; its value does not matter.
    pub(crate) changed: bool,
    pub(crate) committed: bool,
    /// Highest end let through.
    pub(crate) passed_end: [u8; 2],
    /// Added to the positions of each side (modulo 256).
    pub(crate) shift: [u8; 2],
}

impl Program {
    /// Step one of an observed packet.
    pub(crate) fn record(&mut self, side: usize, segment: Segment) {
        self.passed_end[side] = self.passed_end[side].max(segment.end());
    }

    /// Step two: the word decides. True: forward it.
    pub(crate) fn count(&mut self, segment: Segment) -> bool {
        self.changed |= segment.byte.is_some();
        self.committed
    }

    /// The segment as the other leg must see it.
    pub(crate) fn translate(&self, side: usize, segment: Segment) -> Segment {
        Segment {
            seq: segment.seq.wrapping_add(self.shift[side]),
            byte: segment.byte,
            ack: segment.ack.wrapping_sub(self.shift[1 - side]),
        }
    }
}
