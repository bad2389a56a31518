//! TCP options that do not come in the one common shape: any order and padding.
//!
//! They are copied out of the packet, worked on in a buffer and copied back. The
//! walk keeps all its state in memory and is driven from outside, one option a
//! step: the kernel's verifier then checks one step, not all ways through forty.

use crate::checksum::Diff;
use crate::packet::{Packet, ROOM, Segment, TCP};
use crate::rewrite::Translation;
use crate::syn::Limits;

/// The shape nearly every segment has: NOP, NOP, timestamps (RFC 7323 appendix A).
pub const TIMESTAMPS_ALONE: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];
/// Option bytes a TCP header can hold, and so the most steps of a walk.
pub const MAX: u32 = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const NOPS: u32 = 0x0101_0101;
const MSS: u8 = 2;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// More than any MSS.
const NO_CAP: u32 = 0xffff;
/// Edges in the longest SACK option.
const EDGES: usize = 8;

/// A copy of a segment's options and what is to be done with them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    bytes: [u8; ROOM],
    size: u32,
    /// Where the walk stands.
    cursor: u32,
    /// What to add to TSval, TSecr and SACK edges.
    tsval: u32,
    tsecr: u32,
    edges: u32,
    /// Options that become NOPs: bit n is kind n.
    blanks: u32,
    /// Cap of an announced MSS.
    mss: u32,
    /// Folded change of the checksum so far.
    change: u32,
    /// 1: an option overruns the header.
    malformed: u32,
    /// The TSval found, valid with `stamped` 1.
    stamp: u32,
    stamped: u32,
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There may be another option.
    More,
    /// The end or a malformed option was met.
    Done,
}

/// Whether a SACK option of this length has whole blocks, at most four (RFC 2018).
#[inline(always)]
const fn whole(length: u32) -> bool {
    length % 8 == 2 && length <= 2 + EDGES as u32 * 4
}

impl Options {
    /// No options.
    pub const EMPTY: Options = Options {
        bytes: [0; ROOM],
        size: 0,
        cursor: 0,
        tsval: 0,
        tsecr: 0,
        edges: 0,
        blanks: 0,
        mss: NO_CAP,
        change: 0,
        malformed: 0,
        stamp: 0,
        stamped: 0,
    };

    /// Shifts timestamps and SACK edges in the packet, or blanks its SACK option;
    /// returns the change of the checksum. `None`: an option overruns the header.
    #[inline(always)]
    pub fn translate<P: Packet>(
        &mut self,
        packet: &mut P,
        segment: &Segment,
        translation: &Translation<'_>,
    ) -> Option<Diff> {
        self.load(packet, segment)?;
        self.tsval = translation.tsval;
        self.tsecr = translation.tsecr;
        self.edges = translation.ack;
        self.blanks = (translation.blank_sack as u32) << SACK;
        self.apply(packet, segment)
    }

    /// Takes out of a SYN what `limits` do not let it ask for; returns the change of
    /// the checksum. `None`: it has no options, or one overruns the header.
    #[inline(always)]
    pub fn limit<P: Packet>(
        &mut self,
        packet: &mut P,
        segment: &Segment,
        limits: &Limits,
    ) -> Option<Diff> {
        self.load(packet, segment)?;
        self.blanks =
            (!limits.timestamps as u32) << TIMESTAMPS | (!limits.sack as u32) << SACK_PERMITTED;
        self.mss = limits.mss as u32;
        self.apply(packet, segment)
    }

    /// The buffer with these two bytes in front, for [`Packet::copy_in`]: the kernel's
    /// stack has no room for another.
    #[inline(always)]
    pub fn holding(&mut self, bytes: [u8; 2]) -> &[u8; ROOM] {
        [self.bytes[0], self.bytes[1]] = bytes;
        &self.bytes
    }

    /// The TSval, if there is one.
    #[inline(always)]
    pub fn timestamp<P: Packet>(&mut self, packet: &P, segment: &Segment) -> Option<u32> {
        self.load(packet, segment)?;
        packet.walk(self);
        (self.stamped == 1).then_some(self.stamp)
    }

    /// Overwrites everything by NOPs.
    #[inline(always)]
    pub fn blank<P: Packet>(&mut self, packet: &mut P, segment: &Segment) -> Option<Diff> {
        if segment.header() == TCP {
            return Some(Diff::NONE);
        }
        self.load(packet, segment)?;
        for word in 0..MAX as usize / 4 {
            if word * 4 >= self.size as usize {
                break;
            }
            self.replace(word * 4, NOPS);
        }
        self.store(packet, segment)?;
        Some(self.changed())
    }

    /// Works on the option at the cursor and moves the cursor behind it.
    #[inline(always)]
    pub fn step(&mut self) -> Step {
        if self.cursor >= self.size {
            return Step::Done;
        }
        let kind = self.byte(0);
        if kind == END {
            return Step::Done;
        }
        if kind == NOP {
            self.cursor += 1;
            return Step::More;
        }
        let length = self.byte(1) as u32;
        if length < 2 || self.cursor + length > self.size || kind == SACK && !whole(length) {
            self.malformed = 1;
            return Step::Done;
        }
        if kind < 32 && self.blanks >> kind & 1 != 0 && length % 4 == 2 {
            self.blank_option(length as usize);
        } else if kind == TIMESTAMPS && length == 10 {
            self.stamp = self.long(2);
            self.stamped = 1;
            self.shift(2, self.tsval);
            self.shift(6, self.tsecr);
        } else if kind == SACK {
            self.shift_edges(length as usize);
        } else if kind == MSS && length == 4 {
            self.cap_mss();
        }
        self.cursor += length;
        Step::More
    }

    /// Walks what was loaded and writes it back; returns the change of the checksum.
    #[inline(always)]
    fn apply<P: Packet>(&mut self, packet: &mut P, segment: &Segment) -> Option<Diff> {
        packet.walk(self);
        if self.malformed != 0 {
            return None;
        }
        self.store(packet, segment)?;
        Some(self.changed())
    }

    /// Copies a segment's options out of the packet, to be left as they are; `None`
    /// if it has none or ends before them.
    #[inline(always)]
    fn load<P: Packet>(&mut self, packet: &P, segment: &Segment) -> Option<()> {
        let size = segment.header().saturating_sub(TCP);
        self.size = size as u32;
        self.cursor = 0;
        self.tsval = 0;
        self.tsecr = 0;
        self.edges = 0;
        self.blanks = 0;
        self.mss = NO_CAP;
        self.change = 0;
        self.malformed = 0;
        self.stamped = 0;
        packet.copy_out(segment.tcp() + TCP, &mut self.bytes, size)
    }

    /// Copies them back.
    #[inline(always)]
    fn store<P: Packet>(&self, packet: &mut P, segment: &Segment) -> Option<()> {
        packet.copy_in(segment.tcp() + TCP, &self.bytes, self.size as usize)
    }

    #[inline(always)]
    fn changed(&self) -> Diff {
        Diff::NONE.folded(self.change as u16)
    }

    /// Shifts the edges behind kind and length (RFC 2018 section 3).
    #[inline(always)]
    fn shift_edges(&mut self, length: usize) {
        for edge in 0..EDGES {
            if 2 + edge * 4 + 4 > length {
                break;
            }
            self.shift(2 + edge * 4, self.edges);
        }
    }

    /// Lowers an announced MSS (RFC 9293 section 3.7.1) to the cap.
    #[inline(always)]
    fn cap_mss(&mut self) {
        let (kind_and_length, mss) = (self.long(0) & 0xffff_0000, self.long(0) & 0xffff);
        self.replace(
            0,
            kind_and_length | if mss < self.mss { mss } else { self.mss },
        );
    }

    /// Turns a whole option of 2 + 4n bytes into NOPs.
    #[inline(always)]
    fn blank_option(&mut self, length: usize) {
        for edge in 0..EDGES {
            if 2 + edge * 4 + 4 > length {
                break;
            }
            self.replace(2 + edge * 4, NOPS);
        }
        for ahead in 0..2 {
            let (at, old) = (self.index(ahead), self.byte(ahead));
            self.bytes[at] = NOP;
            self.book(Diff::NONE.byte_at(at, old, NOP));
        }
    }

    #[inline(always)]
    fn shift(&mut self, ahead: usize, by: u32) {
        self.replace(ahead, self.long(ahead).wrapping_add(by));
    }

    #[inline(always)]
    fn replace(&mut self, ahead: usize, new: u32) {
        let old = self.long(ahead);
        let bytes = new.to_be_bytes();
        self.bytes[self.index(ahead)] = bytes[0];
        self.bytes[self.index(ahead + 1)] = bytes[1];
        self.bytes[self.index(ahead + 2)] = bytes[2];
        self.bytes[self.index(ahead + 3)] = bytes[3];
        self.book(Diff::NONE.long_at(self.index(ahead), old, new));
    }

    #[inline(always)]
    fn book(&mut self, change: Diff) {
        self.change = change.folded(self.change as u16).fold() as u32;
    }

    /// 32 bits, at an even or odd offset.
    #[inline(always)]
    fn long(&self, ahead: usize) -> u32 {
        u32::from_be_bytes([
            self.byte(ahead),
            self.byte(ahead + 1),
            self.byte(ahead + 2),
            self.byte(ahead + 3),
        ])
    }

    #[inline(always)]
    fn byte(&self, ahead: usize) -> u8 {
        self.bytes[self.index(ahead)]
    }

    /// Index of the byte `ahead` of the cursor, within bounds whatever happens.
    #[inline(always)]
    fn index(&self, ahead: usize) -> usize {
        (self.cursor as usize + ahead) & (ROOM - 1)
    }
}
