//! ICMP errors (RFC 792, RFC 4443): reports about packets that the balancer has sent
//! on, translated for the end whose packet it was; and the one it makes itself, where
//! its own way out is the narrow place.

use crate::checksum::{Diff, Sum};
use crate::flow::{Address, Family, Tuple};
use crate::packet::{
    ETHERNET, FRAGMENT_OFFSET_V4, PROTOCOL_ICMP, PROTOCOL_ICMP_V6, PROTOCOL_TCP, Packet, Segment,
    Shape, TCP, TCP_V4, TCP_V6, address_v6, ports, word,
};
use crate::rewrite::{OWN_TTL, Translation, replace_v4, rewrite_v4, store_v6};

/// Length of an error's own header; the packet it is about follows.
const ICMP: usize = 8;
/// Where the quoted packet begins, behind an IP header without options.
const QUOTE_V4: usize = TCP_V4 + ICMP;
const QUOTE_V6: usize = TCP_V6 + ICMP;
/// The sender's class for errors (RFC 1812 section 4.3.2.5): internetwork control.
const TOS: u8 = 0xc0;

/// What an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Fragmentation needed (RFC 1191), packet too big (RFC 8201).
    TooBig,
    /// Unreachable, time exceeded, parameter problem.
    Unreachable,
}

/// Reads an error about a TCP segment. The segment filled in is the quoted one seen
/// from its receiver: its key is the leg it was sent on. All else but the outer TTL is
/// what it was.
#[inline(always)]
pub(crate) fn parse_v4<P: Packet>(packet: &P, into: &mut Segment) -> Shape {
    quoted_v4(packet, into).unwrap_or(Shape::Cut)
}

#[inline(always)]
fn quoted_v4<P: Packet>(packet: &P, into: &mut Segment) -> Option<Shape> {
    let report = match packet.load(TCP_V4)? {
        [3, 4] => Report::TooBig,
        [3 | 11 | 12, _] => Report::Unreachable,
        _ => return Some(Shape::Other),
    };
    let [version] = packet.load(QUOTE_V4)?;
    let fragment = u16::from_be_bytes(packet.load(QUOTE_V4 + 6)?);
    let [protocol] = packet.load(QUOTE_V4 + 9)?;
    let (from, to) = (word(packet, QUOTE_V4 + 12)?, word(packet, QUOTE_V4 + 16)?);
    // The balancer sends no options and no fragments, and hears only of its own.
    if version != 0x45
        || protocol != PROTOCOL_TCP
        || fragment & FRAGMENT_OFFSET_V4 != 0
        || word(packet, ETHERNET + 16)? != from
    {
        return Some(Shape::Other);
    }
    into.key.tuple.peer = Address::v4(to);
    into.key.tuple.local = Address::v4(from);
    quoted_tcp(packet, QUOTE_V4 + 20, into)?;
    Some(Shape::Report(report))
}

/// The same of ICMPv6.
#[inline(always)]
pub(crate) fn parse_v6<P: Packet>(packet: &P, into: &mut Segment) -> Shape {
    quoted_v6(packet, into).unwrap_or(Shape::Cut)
}

#[inline(always)]
fn quoted_v6<P: Packet>(packet: &P, into: &mut Segment) -> Option<Shape> {
    let report = match packet.load(TCP_V6)? {
        [2] => Report::TooBig,
        [1 | 3 | 4] => Report::Unreachable,
        _ => return Some(Shape::Other),
    };
    let [next] = packet.load(QUOTE_V6 + 6)?;
    let from = address_v6(packet, QUOTE_V6 + 8)?;
    if next != PROTOCOL_TCP || into.key.tuple.local != from {
        return Some(Shape::Other);
    }
    into.key.tuple.peer = address_v6(packet, QUOTE_V6 + 24)?;
    quoted_tcp(packet, QUOTE_V6 + 40, into)?;
    Some(Shape::Report(report))
}

/// The eight bytes that every error quotes. The balancer's own port stands first.
#[inline(always)]
fn quoted_tcp<P: Packet>(packet: &P, at: usize, into: &mut Segment) -> Option<()> {
    ports(packet, at, into)?;
    let Tuple {
        peer_port,
        local_port,
        ..
    } = &mut into.key.tuple;
    core::mem::swap(peer_port, local_port);
    into.seq = u32::from_be_bytes(packet.load(at + 4)?);
    Some(())
}

/// Turns a report that came in on one leg into one about the packet as its sender knows
/// it, from the address it talks to. `translation` is that of the leg's own packets: a
/// quoted sequence number moves like an acknowledgment.
///
/// `None`: the bytes are not there; drop it.
#[inline(always)]
pub fn translate<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    translation: &Translation<'_>,
) -> Option<()> {
    match segment.family {
        Family::V4 => translate_v4(packet, segment, translation),
        Family::V6 => translate_v6(packet, segment, translation),
    }
}

#[inline(always)]
fn translate_v4<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    translation: &Translation<'_>,
) -> Option<()> {
    let Tuple { peer, local, .. } = translation.leg;
    rewrite_v4(packet, segment, translation, segment.ttl.wrapping_sub(1))?;
    let quoted =
        replace_v4(packet, QUOTE_V4 + 12, peer)?.and(replace_v4(packet, QUOTE_V4 + 16, local)?);
    let checksum = u16::from_be_bytes(packet.load(QUOTE_V4 + 10)?);
    packet.store(QUOTE_V4 + 10, quoted.apply(checksum).to_be_bytes())?;
    // The quoted header's sum is what it was: its own checksum has taken up the change.
    let change = rewrite_quoted(packet, QUOTE_V4 + 20, segment, translation)?;
    mend(packet, TCP_V4 + 2, change)
}

#[inline(always)]
fn translate_v6<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    translation: &Translation<'_>,
) -> Option<()> {
    let Tuple { peer, local, .. } = translation.leg;
    packet.store(ETHERNET + 7, [segment.ttl.wrapping_sub(1)])?;
    let change = replace_v6(packet, ETHERNET + 8, local)?
        .and(replace_v6(packet, ETHERNET + 24, peer)?)
        .and(replace_v6(packet, QUOTE_V6 + 8, peer)?)
        .and(replace_v6(packet, QUOTE_V6 + 24, local)?)
        .and(rewrite_quoted(packet, QUOTE_V6 + 40, segment, translation)?);
    mend(packet, TCP_V6 + 2, change)
}

/// Ports and sequence number. The quoted checksum is left: it is mostly cut off, and
/// nobody can verify it over a segment that is.
#[inline(always)]
fn rewrite_quoted<P: Packet>(
    packet: &mut P,
    at: usize,
    segment: &Segment,
    translation: &Translation<'_>,
) -> Option<Diff> {
    let (old, new) = (&segment.key.tuple, translation.leg);
    let seq = segment.seq.wrapping_add(translation.ack);
    packet.store(at, new.peer_port.to_ne_bytes())?;
    packet.store(at + 2, new.local_port.to_ne_bytes())?;
    packet.store(at + 4, seq.to_be_bytes())?;
    Some(
        Diff::NONE
            .word(u16::from_be(old.local_port), u16::from_be(new.peer_port))
            .word(u16::from_be(old.peer_port), u16::from_be(new.local_port))
            .long(segment.seq, seq),
    )
}

#[inline(always)]
fn replace_v6<P: Packet>(packet: &mut P, offset: usize, new: &Address) -> Option<Diff> {
    let old = address_v6(packet, offset)?;
    store_v6(packet, offset, new)?;
    Some(Diff::NONE.address(&old, new))
}

#[inline(always)]
fn mend<P: Packet>(packet: &mut P, at: usize, change: Diff) -> Option<()> {
    let checksum = u16::from_be_bytes(packet.load(at)?);
    packet.store(at, change.apply(checksum).to_be_bytes())
}

/// Bytes to be made between Ethernet header and IP header for [`too_big`].
#[inline(always)]
pub const fn room(family: Family) -> usize {
    match family {
        Family::V4 => 20 + ICMP,
        Family::V6 => 40 + ICMP,
    }
}

/// What is quoted of a segment that is too big: the IP header and the TCP header
/// without options. The frame is to be cut to this before [`room`] is made.
#[inline(always)]
pub const fn quoted(family: Family) -> usize {
    match family {
        Family::V4 => TCP_V4 + TCP,
        Family::V6 => TCP_V6 + TCP,
    }
}

/// Writes the error to the sender of `segment` into the room made in front of it:
/// `mtu` bytes are the most that can be sent on. `unfinished`: the hardware may still
/// complete the quoted TCP checksum, so this message's must be right after that.
///
/// The caller swaps the Ethernet addresses. `None`: the bytes are not there.
#[inline(always)]
pub fn too_big<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    mtu: u32,
    unfinished: bool,
) -> Option<()> {
    match segment.family {
        Family::V4 => too_big_v4(packet, segment, mtu, unfinished),
        Family::V6 => too_big_v6(packet, segment, mtu, unfinished),
    }
}

#[inline(always)]
fn too_big_v4<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    mtu: u32,
    unfinished: bool,
) -> Option<()> {
    let Tuple { peer, local, .. } = &segment.key.tuple;
    let length = (20 + ICMP + 20 + TCP) as u16;
    packet.store(ETHERNET, [0x45, TOS])?;
    packet.store(ETHERNET + 2, length.to_be_bytes())?;
    packet.store(ETHERNET + 4, [0; 4])?;
    packet.store(ETHERNET + 8, [OWN_TTL, PROTOCOL_ICMP, 0, 0])?;
    packet.store(ETHERNET + 12, local.0[3].to_ne_bytes())?;
    packet.store(ETHERNET + 16, peer.0[3].to_ne_bytes())?;
    let header = Sum::NONE.over::<5, P>(packet, ETHERNET)?;
    packet.store(ETHERNET + 10, header.checksum().to_be_bytes())?;
    packet.store(TCP_V4, [3, 4, 0, 0, 0, 0])?;
    packet.store(TCP_V4 + 6, (mtu as u16).to_be_bytes())?;
    let sum = Sum::NONE.over::<2, P>(packet, TCP_V4)?;
    let sum = sum.over::<5, P>(packet, QUOTE_V4)?;
    let sum = sum_tcp(packet, QUOTE_V4 + 20, sum, unfinished)?;
    packet.store(TCP_V4 + 2, sum.checksum().to_be_bytes())
}

#[inline(always)]
fn too_big_v6<P: Packet>(
    packet: &mut P,
    segment: &Segment,
    mtu: u32,
    unfinished: bool,
) -> Option<()> {
    let Tuple { peer, local, .. } = &segment.key.tuple;
    let length = (ICMP + 40 + TCP) as u16;
    packet.store(ETHERNET, [0x60, 0, 0, 0])?;
    packet.store(ETHERNET + 4, length.to_be_bytes())?;
    packet.store(ETHERNET + 6, [PROTOCOL_ICMP_V6, OWN_TTL])?;
    store_v6(packet, ETHERNET + 8, local)?;
    store_v6(packet, ETHERNET + 24, peer)?;
    packet.store(TCP_V6, [2, 0, 0, 0])?;
    packet.store(TCP_V6 + 4, mtu.to_be_bytes())?;
    // The pseudo header (RFC 8200 section 8.1): addresses, length, next header.
    let sum = Sum::NONE
        .over::<8, P>(packet, ETHERNET + 8)?
        .word(length)
        .word(PROTOCOL_ICMP_V6 as u16);
    let sum = sum.over::<12, P>(packet, TCP_V6)?;
    let sum = sum_tcp(packet, QUOTE_V6 + 40, sum, unfinished)?;
    packet.store(TCP_V6 + 2, sum.checksum().to_be_bytes())
}

/// Adds the quoted TCP header, its checksum as it will be when it is complete: what
/// completes it sums from the header's start to the packet's end, the field included.
#[inline(always)]
fn sum_tcp<P: Packet>(packet: &P, at: usize, sum: Sum, unfinished: bool) -> Option<Sum> {
    let header = Sum::NONE.over::<5, P>(packet, at)?;
    let sum = sum.and(header);
    if !unfinished {
        return Some(sum);
    }
    let field = u16::from_be_bytes(packet.load(at + 16)?);
    Some(sum.word(!field).word(header.checksum()))
}
