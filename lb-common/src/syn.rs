//! What the balancer's own SYN to a target may ask for.
//!
//! Linux has no switch per socket for timestamps or SACK, and TCP_MAXSEG would hide
//! what the target takes. So the daemon leaves word in the entry of what the client's
//! leg has, and the egress program takes the rest out of the SYN when it leaves; the
//! socket learns of it by the target's answer.

use crate::checksum::Diff;
use crate::flow::Shifts;
use crate::options::Options;
use crate::packet::{Packet, Segment, flags};

/// What the client's leg has; kept in the flow's shifts until the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest segment to announce.
    pub mss: u16,
    /// Whether to offer timestamps (RFC 7323).
    pub timestamps: bool,
    /// Whether to offer selective acknowledgments (RFC 2018).
    pub sack: bool,
}

const NO_TIMESTAMPS: u32 = 1 << 16;
const NO_SACK: u32 = 1 << 17;
/// Set by the program: the SYN that left was like this.
const TOLD: u32 = 1 << 31;
/// The third ECN bit (RFC 9768: AE), beside the header's length.
const AE: u8 = 0x01;

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits {
        mss: u16::MAX,
        timestamps: true,
        sack: true,
    };

    /// What a new entry says.
    #[inline(always)]
    pub const fn of(shifts: &Shifts) -> Limits {
        let word = shifts.seq[0];
        Limits {
            mss: !(word as u16),
            timestamps: word & NO_TIMESTAMPS == 0,
            sack: word & NO_SACK == 0,
        }
    }

    /// The shifts of a new entry; no limits are all zeros.
    pub const fn shifts(&self, shifts: Shifts) -> Shifts {
        let word = !self.mss as u32
            | if self.timestamps { 0 } else { NO_TIMESTAMPS }
            | if self.sack { 0 } else { NO_SACK };
        Shifts {
            seq: [word, shifts.seq[1]],
            ..shifts
        }
    }

    /// Marks in the entry that a SYN has left like this.
    #[inline(always)]
    pub const fn tell(shifts: &mut Shifts) {
        shifts.seq[0] |= TOLD;
    }

    /// The limits that the target was told.
    pub const fn told(shifts: &Shifts) -> Limits {
        match shifts.seq[0] & TOLD {
            0 => Limits::NONE,
            _ => Limits::of(shifts),
        }
    }

    /// Makes a SYN keep to them, and to no ECN: marks cannot be carried from one leg
    /// to the other. Writes by copies alone, so that the kernel need not make every
    /// leaving packet writable. `None`: the options overrun the header.
    #[inline(always)]
    pub fn apply<P: Packet>(
        &self,
        packet: &mut P,
        segment: &Segment,
        options: &mut Options,
    ) -> Option<Diff> {
        let change = match *self == Limits::NONE {
            true => Diff::NONE,
            false => options.limit(packet, segment, self)?,
        };
        let offered = [segment.offset, segment.flags];
        let [offset, flags] = [
            segment.offset & !AE,
            segment.flags & !(flags::ECE | flags::CWR),
        ];
        packet.copy_in(segment.tcp() + 12, options.holding([offset, flags]), 2)?;
        Some(change.word(
            u16::from_be_bytes(offered),
            u16::from_be_bytes([offset, flags]),
        ))
    }

    /// Whether a SYN must be changed at all.
    #[inline(always)]
    pub fn concern(&self, segment: &Segment) -> bool {
        *self != Limits::NONE
            || segment.flags & (flags::ECE | flags::CWR) != 0
            || segment.offset & AE != 0
    }
}
