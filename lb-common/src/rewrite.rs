//! Turning a packet of one leg into a packet of the other.
//!
//! The two connections differ by constants (see [`Shifts`]); applying them to
//! every position in a segment keeps both ends' TCP intact. Addition modulo
//! 2^32 makes there and back the identity.

use crate::checksum::Diff;
use crate::flow::{Address, BLANK_SACK, Family, Flow, SCALE_MASK, Shifts, Side, Tuple};
use crate::options::{Options, TIMESTAMPS_ALONE};
use crate::packet::{ETHERNET, Packet, Segment, TCP, flags};

/// TTL of packets that the balancer makes itself (IP_DEFAULT_TTL).
pub(crate) const OWN_TTL: u8 = 64;

/// What one side's packets need on their way to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation<'a> {
    /// The leg it leaves on: from `local` to `peer`.
    pub leg: &'a Tuple,
    /// Added to the sequence number.
    pub seq: u32,
    /// Added to the acknowledgment number and to SACK edges.
    pub ack: u32,
    /// Added to TSval.
    pub tsval: u32,
    /// Added to TSecr.
    pub tsecr: u32,
    /// The sender's window scale.
    pub scale_sent: u8,
    /// The scale the receiver will apply.
    pub scale_expected: u8,
    /// Overwrite SACK blocks by NOPs.
    pub blank_sack: bool,
}

impl<'a> Translation<'a> {
    /// The translation of packets from `side`; `client` is the client leg's tuple.
    #[inline(always)]
    pub fn new(client: &'a Tuple, flow: &'a Flow, side: Side) -> Self {
        let Shifts {
            seq,
            stamp,
            scale_sent,
            scale_announced,
            ..
        } = &flow.shifts;
        let (near, far) = (side.index(), side.other().index());
        Translation {
            leg: match side {
                Side::Client => &flow.target,
                Side::Target => client,
            },
            seq: seq[near],
            ack: 0u32.wrapping_sub(seq[far]),
            tsval: stamp[near],
            tsecr: 0u32.wrapping_sub(stamp[far]),
            scale_sent: scale_sent[near] & SCALE_MASK,
            scale_expected: scale_announced[far] & SCALE_MASK,
            blank_sack: scale_announced[near] & BLANK_SACK != 0,
        }
    }

    /// The window field as the receiver must see it, rounded down: less than a unit is
    /// none. Told of a whole unit, a sender would fill it, have that dropped and send it
    /// again ever more rarely; told of none it probes, and hears at once of the next
    /// window, which its peer does not make as small (RFC 9293 section 3.8.6.2.2).
    #[inline(always)]
    pub const fn window(&self, field: u16) -> u16 {
        let bytes = (field as u32) << self.scale_sent;
        let scaled = bytes >> self.scale_expected;
        if scaled > 0xffff {
            0xffff
        } else {
            scaled as u16
        }
    }
}

/// Changes still to be made in the TCP checksum. Kept apart because a checksum
/// that the hardware completes covers only the pseudo header yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Of the addresses (pseudo header, RFC 9293 section 3.1).
    pub pseudo: Diff,
    /// Of the TCP header.
    pub header: Diff,
}

/// Rewrites a segment but for its TCP checksum; `options` is room to work in. `None`: it was malformed (options
/// that overrun the header); the frame may be half rewritten and must be dropped.
#[inline(always)]
pub fn rewrite<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    options: &mut Options,
    translation: &Translation<'_>,
) -> Option<Changes> {
    let ttl = segment.ttl.wrapping_sub(1);
    let shifted = rewrite_options(packet, segment, options, translation)?;
    let pseudo = match segment.family {
        Family::V4 => rewrite_v4(packet, segment, translation, ttl)?,
        Family::V6 => rewrite_v6(packet, segment, translation, ttl)?,
    };
    let header = rewrite_tcp(packet, segment, translation)?;
    Some(Changes {
        pseudo,
        header: header.and(shifted),
    })
}

/// Applies the changes to a complete checksum.
#[inline(always)]
pub fn finish_checksum<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    changes: &Changes,
) -> Option<()> {
    let old = u16::from_be_bytes(packet.load(segment.tcp() + 16)?);
    let new = changes.pseudo.and(changes.header).apply(old);
    packet.store(segment.tcp() + 16, new.to_be_bytes())
}

/// Addresses, TTL and header checksum; returns the pseudo header's difference.
#[inline(always)]
pub(crate) fn rewrite_v4<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    translation: &Translation<'_>,
    ttl: u8,
) -> Option<Diff> {
    let Tuple { peer, local, .. } = translation.leg;
    let source = replace_v4(packet, ETHERNET + 12, local)?;
    let pseudo = source.and(replace_v4(packet, ETHERNET + 16, peer)?);
    let change = pseudo.byte_at(8, segment.ttl, ttl);
    packet.store(ETHERNET + 8, [ttl])?;
    let checksum = u16::from_be_bytes(packet.load(ETHERNET + 10)?);
    packet.store(ETHERNET + 10, change.apply(checksum).to_be_bytes())?;
    Some(pseudo)
}

#[inline(always)]
pub(crate) fn replace_v4<P: Packet>(
    packet: &mut P,
    offset: usize,
    address: &Address,
) -> Option<Diff> {
    let [.., new] = address.0;
    let old = u32::from_ne_bytes(packet.load(offset)?);
    packet.store(offset, new.to_ne_bytes())?;
    Some(Diff::NONE.raw(old, new))
}

#[inline(always)]
fn rewrite_v6<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    translation: &Translation<'_>,
    ttl: u8,
) -> Option<Diff> {
    let Tuple { peer, local, .. } = translation.leg;
    let old = &segment.key.tuple;
    packet.store(ETHERNET + 7, [ttl])?;
    store_v6(packet, ETHERNET + 8, local)?;
    store_v6(packet, ETHERNET + 24, peer)?;
    Some(
        Diff::NONE
            .address(&old.peer, local)
            .address(&old.local, peer),
    )
}

#[inline(always)]
pub(crate) fn store_v6<P: Packet>(packet: &mut P, offset: usize, address: &Address) -> Option<()> {
    let [a, b, c, d] = address.0;
    packet.store(offset, a.to_ne_bytes())?;
    packet.store(offset + 4, b.to_ne_bytes())?;
    packet.store(offset + 8, c.to_ne_bytes())?;
    packet.store(offset + 12, d.to_ne_bytes())
}

#[inline(always)]
fn rewrite_tcp<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    translation: &Translation<'_>,
) -> Option<Diff> {
    let at = segment.tcp();
    let Tuple {
        peer_port,
        local_port,
        ..
    } = *translation.leg;
    let old = &segment.key.tuple;
    let seq = segment.seq.wrapping_add(translation.seq);
    // Without ACK (a bare RST) the field means nothing and stays.
    let ack = match segment.has(flags::ACK) {
        true => segment.ack.wrapping_add(translation.ack),
        false => segment.ack,
    };
    let window = translation.window(segment.window);
    packet.store(at, local_port.to_ne_bytes())?;
    packet.store(at + 2, peer_port.to_ne_bytes())?;
    packet.store(at + 4, seq.to_be_bytes())?;
    packet.store(at + 8, ack.to_be_bytes())?;
    packet.store(at + 14, window.to_be_bytes())?;
    Some(
        Diff::NONE
            .word(u16::from_be(old.peer_port), u16::from_be(local_port))
            .word(u16::from_be(old.local_port), u16::from_be(peer_port))
            .long(segment.seq, seq)
            .long(segment.ack, ack)
            .word(segment.window, window),
    )
}

/// The common shapes first: none, or NOP NOP timestamps (RFC 7323 appendix A).
#[inline(always)]
fn rewrite_options<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    options: &mut Options,
    translation: &Translation<'_>,
) -> Option<Diff> {
    let at = segment.tcp() + TCP;
    if segment.header() == TCP {
        return Some(Diff::NONE);
    }
    if segment.header() == TCP + 12 && packet.load(at)? == TIMESTAMPS_ALONE {
        return Some(shift(packet, at + 4, translation.tsval)?.and(shift(
            packet,
            at + 8,
            translation.tsecr,
        )?));
    }
    options.translate(packet, segment, translation)
}

/// Adds to the 32 bits at `at`, an even offset.
#[inline(always)]
fn shift<P: Packet>(packet: &mut P, at: usize, by: u32) -> Option<Diff> {
    let old = u32::from_be_bytes(packet.load(at)?);
    let new = old.wrapping_add(by);
    packet.store(at, new.to_be_bytes())?;
    Some(Diff::NONE.long(old, new))
}

/// The TSval of a segment that carries timestamps.
#[inline(always)]
pub fn timestamp<P: Packet>(packet: &P, segment: &Segment, options: &mut Options) -> Option<u32> {
    let at = segment.tcp() + TCP;
    if segment.header() == TCP {
        return None;
    }
    if segment.header() == TCP + 12 && packet.load(at)? == TIMESTAMPS_ALONE {
        return Some(u32::from_be_bytes(packet.load(at + 4)?));
    }
    options.timestamp(packet, segment)
}

/// Turns a SYN on a live flow around into a challenge ACK (RFC 5961 section 4),
/// in place: options become NOPs so that the length stays. The caller swaps the
/// Ethernet addresses. `None`: not a bare SYN, drop it.
#[inline(always)]
pub fn challenge<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    options: &mut Options,
    seq: u32,
    ack: u32,
    window: u16,
) -> Option<Changes> {
    // A reset is never answered (RFC 9293 section 3.10.7.1).
    if segment.payload != 0 || segment.has(flags::RST) {
        return None;
    }
    let translation = Translation {
        leg: &segment.key.tuple,
        seq: seq.wrapping_sub(segment.seq),
        ack: 0,
        tsval: 0,
        tsecr: 0,
        scale_sent: 0,
        scale_expected: 0,
        blank_sack: false,
    };
    let change = options.blank(packet, segment)?;
    let pseudo = match segment.family {
        Family::V4 => rewrite_v4(packet, segment, &translation, OWN_TTL)?,
        Family::V6 => rewrite_v6(packet, segment, &translation, OWN_TTL)?,
    };
    let header = rewrite_tcp(packet, segment, &translation)?;
    // rewrite_tcp has left ack and window of the SYN; put the reply's in.
    packet.store(segment.tcp() + 8, ack.to_be_bytes())?;
    packet.store(segment.tcp() + 13, [flags::ACK])?;
    packet.store(segment.tcp() + 14, window.to_be_bytes())?;
    let change = change
        .long(segment.ack, ack)
        .byte_at(1, segment.flags, flags::ACK)
        .word(segment.window, window);
    Some(Changes {
        pseudo,
        header: header.and(change),
    })
}
