//! Reading a frame: Ethernet, IP, TCP, down to what the pipeline needs; what ICMP
//! quotes of one is [`crate::icmp`]'s.

use crate::flow::{Address, Family, FlowKey, Tuple};
use crate::icmp::{self, Report};
use crate::options::{MAX, Options, Step};

/// A frame from its Ethernet header on, however it is held.
///
/// Implemented over packet memory in the kernel and over a slice on the host, so
/// one parser and one rewrite serve both.
pub trait Packet {
    /// Bytes of the whole frame, also of those that cannot be reached.
    fn length(&self) -> usize;
    /// `N` bytes at `offset`, or `None` beyond what can be reached.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// Overwrites `N` bytes at `offset`; `None` (nothing written) beyond the end.
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;
    /// Copies the `size` bytes at `offset` to the front of `into`; at most 63.
    fn copy_out(&self, offset: usize, into: &mut [u8; ROOM], size: usize) -> Option<()>;
    /// Overwrites the `size` bytes at `offset` with the front of `from`; at most 63.
    fn copy_in(&mut self, offset: usize, from: &[u8; ROOM], size: usize) -> Option<()>;
    /// Calls [`Options::step`] until it is done, at most [`MAX`] times.
    fn walk(&self, options: &mut Options);
}

/// Size of the buffer for ranges: a power of two beyond the 40 bytes of options, so
/// that an index can be masked into bounds.
pub const ROOM: usize = 64;

/// Length of an Ethernet header; the frame starts with it.
pub const ETHERNET: usize = 14;
/// Offset of the TCP header behind an IPv4 header without options.
pub const TCP_V4: usize = ETHERNET + 20;
/// Offset of the TCP header behind an IPv6 header without extensions.
pub const TCP_V6: usize = ETHERNET + 40;
/// Length of a TCP header without options.
pub const TCP: usize = 20;

/// TCP flags (RFC 9293 section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field means something.
    pub const ACK: u8 = 0x10;
    /// Congestion was experienced; in a SYN, an offer of ECN (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// The sender slows down; in a SYN, an offer of ECN.
    pub const CWR: u8 = 0x80;
}

/// No frame is as long (GSO_MAX_SIZE of Linux is half of it).
const GIANT: usize = 1 << 20;

const ETHERTYPE_V4: u16 = 0x0800;
const ETHERTYPE_V6: u16 = 0x86dd;
pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_ICMP_V6: u8 = 58;
/// More-fragments bit and fragment offset (RFC 791).
pub(crate) const FRAGMENT_V4: u16 = 0x3fff;
pub(crate) const FRAGMENT_OFFSET_V4: u16 = 0x1fff;

/// A TCP segment, fixed fields in host order.
///
/// Filled in place: the kernel's stack of 512 bytes has no room for copies, so
/// there it lives in a per-CPU map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The leg it belongs to, if any.
    pub key: FlowKey,
    /// IP version.
    pub family: Family,
    /// The byte with the TCP header's length, see [`Segment::header`].
    pub offset: u8,
    /// Bytes behind the TCP header, by the IP header's word.
    pub payload: u32,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Window field, unscaled.
    pub window: u16,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Segment {
    /// A place to parse into.
    pub const EMPTY: Segment = Segment {
        key: FlowKey::new(
            Tuple {
                peer: Address([0; 4]),
                local: Address([0; 4]),
                peer_port: 0,
                local_port: 0,
            },
            Family::V4,
        ),
        family: Family::V4,
        offset: 0,
        payload: 0,
        seq: 0,
        ack: 0,
        flags: 0,
        window: 0,
        ttl: 0,
    };

    /// Offset of the TCP header in the frame.
    #[inline(always)]
    pub const fn tcp(&self) -> usize {
        match self.family {
            Family::V4 => TCP_V4,
            Family::V6 => TCP_V6,
        }
    }

    /// Length of the TCP header with options, 20 to 60. (Computed where it is used:
    /// the verifier must see its bound.)
    #[inline(always)]
    pub const fn header(&self) -> usize {
        ((self.offset >> 4) as usize) * 4
    }

    /// Whether all of `mask` is set.
    #[inline(always)]
    pub const fn has(&self, mask: u8) -> bool {
        self.flags & mask == mask
    }

    /// Sequence space it takes: payload, and one each for SYN and FIN.
    #[inline(always)]
    pub const fn length(&self) -> u32 {
        self.payload + self.has(flags::SYN) as u32 + self.has(flags::FIN) as u32
    }

    /// The sequence number behind it.
    #[inline(always)]
    pub const fn end(&self) -> u32 {
        self.seq.wrapping_add(self.length())
    }

    /// Whether it must be counted in the state word: it moves a stream or its state.
    #[inline(always)]
    pub const fn moves(&self) -> bool {
        self.length() > 0 || self.has(flags::RST)
    }
}

/// A frame that carries TCP ports but in a form no flow's packet may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// First fragment of several.
    Fragment,
    /// IPv4 options or IPv6 extension headers.
    Headers,
    /// Header lengths that contradict each other or reach beyond the frame.
    Malformed,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing for the program; nothing was filled in.
    Other,
    /// A plain TCP segment.
    Segment,
    /// Only the key was filled in, and of the flags SYN and ACK (but for
    /// [`Oddity::Malformed`]): to be dropped if it is a live flow's, else the stack's.
    Odd(Oddity),
    /// An ICMP error about a TCP segment that the balancer's address has sent; key,
    /// family, sequence number and TTL were filled in, see [`crate::icmp`].
    Report(Report),
    /// An ICMP error of which less can be reached than every one quotes.
    Cut,
}

/// Parses a frame; bytes that cannot be reached make it [`Shape::Other`] before
/// the ports are known and [`Oddity::Malformed`] after.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, into: &mut Segment) -> Shape {
    let Some(ethertype) = packet.load::<2>(12) else {
        return Shape::Other;
    };
    match u16::from_be_bytes(ethertype) {
        ETHERTYPE_V4 => parse_v4(packet, into).unwrap_or(Shape::Other),
        ETHERTYPE_V6 => parse_v6(packet, into).unwrap_or(Shape::Other),
        _ => Shape::Other,
    }
}

/// RFC 791.
#[inline(always)]
fn parse_v4<P: Packet>(packet: &P, into: &mut Segment) -> Option<Shape> {
    let [first] = packet.load(ETHERNET)?;
    let total = u16::from_be_bytes(packet.load(ETHERNET + 2)?) as usize;
    let fragment = u16::from_be_bytes(packet.load(ETHERNET + 6)?);
    let [ttl, protocol] = packet.load(ETHERNET + 8)?;
    into.family = Family::V4;
    into.ttl = ttl;
    into.key.family = Family::V4 as u8;
    if protocol == PROTOCOL_ICMP && first == 0x45 && fragment & FRAGMENT_V4 == 0 {
        return Some(icmp::parse_v4(packet, into));
    }
    if protocol != PROTOCOL_TCP || fragment & FRAGMENT_OFFSET_V4 != 0 {
        return Some(Shape::Other);
    }
    into.key.tuple.peer = Address::v4(word(packet, ETHERNET + 12)?);
    into.key.tuple.local = Address::v4(word(packet, ETHERNET + 16)?);
    let internet = ((first & 0x0f) as usize) * 4;
    if internet != 20 {
        return odd(packet, ETHERNET + internet, Oddity::Headers, into);
    }
    if fragment & FRAGMENT_V4 != 0 {
        return odd(packet, TCP_V4, Oddity::Fragment, into);
    }
    ports(packet, TCP_V4, into)?;
    let length = match total {
        0 => giant(packet, TCP_V4),
        total => total.wrapping_sub(20),
    };
    Some(segment(packet, TCP_V4, length, into))
}

/// RFC 8200.
#[inline(always)]
fn parse_v6<P: Packet>(packet: &P, into: &mut Segment) -> Option<Shape> {
    let length = u16::from_be_bytes(packet.load(ETHERNET + 4)?) as usize;
    let [next, ttl] = packet.load(ETHERNET + 6)?;
    into.family = Family::V6;
    into.ttl = ttl;
    into.key.family = Family::V6 as u8;
    into.key.tuple.peer = address_v6(packet, ETHERNET + 8)?;
    into.key.tuple.local = address_v6(packet, ETHERNET + 24)?;
    if next == PROTOCOL_TCP {
        ports(packet, TCP_V6, into)?;
        let length = match length {
            0 => giant(packet, TCP_V6),
            length => length,
        };
        return Some(segment(packet, TCP_V6, length, into));
    }
    if next == PROTOCOL_ICMP_V6 {
        return Some(icmp::parse_v6(packet, into));
    }
    let (at, oddity) = behind_extensions(packet, next)?;
    odd(packet, at, oddity, into)
}

/// What stands behind the IP header of a packet too long for its length field, which
/// is zero then: one that is yet to be cut into segments (Linux's BIG TCP). Zero if it
/// is not that long: the header lies.
#[inline(always)]
fn giant<P: Packet>(packet: &P, tcp: usize) -> usize {
    match packet.length() {
        whole if whole > ETHERNET + 0xffff && whole < GIANT => whole - tcp,
        _ => 0,
    }
}

/// Offset of a TCP header behind extension headers (RFC 8200 section 4), the
/// first four looked at; `None` where there is no TCP to be found.
#[inline(always)]
fn behind_extensions<P: Packet>(packet: &P, first: u8) -> Option<(usize, Oddity)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let mut at = TCP_V6;
    let mut next = first;
    let mut oddity = Oddity::Headers;
    for _ in 0..4 {
        let [following, length] = packet.load(at)?;
        match next {
            FRAGMENT => {
                if u16::from_be_bytes(packet.load(at + 2)?) & 0xfff8 != 0 {
                    return None;
                }
                oddity = Oddity::Fragment;
                at += 8;
            }
            HOP_BY_HOP | ROUTING | DESTINATION => at += 8 + length as usize * 8,
            _ => return None,
        }
        next = following;
        if next == PROTOCOL_TCP {
            return Some((at, oddity));
        }
    }
    None
}

/// Of a segment that is not followed, only the ports and whether it asks for a
/// connection.
#[inline(always)]
fn odd<P: Packet>(packet: &P, tcp: usize, oddity: Oddity, into: &mut Segment) -> Option<Shape> {
    ports(packet, tcp, into)?;
    // Fragments too short for the flags hide them (RFC 1858 section 3): no path is so
    // narrow, so they are taken for the worst.
    let [flags] = packet.load(tcp + 13).unwrap_or([flags::SYN]);
    into.flags = flags & (flags::SYN | flags::ACK);
    into.offset = 0;
    Some(Shape::Odd(oddity))
}

#[inline(always)]
pub(crate) fn ports<P: Packet>(packet: &P, tcp: usize, into: &mut Segment) -> Option<()> {
    into.key.tuple.peer_port = u16::from_ne_bytes(packet.load(tcp)?);
    into.key.tuple.local_port = u16::from_ne_bytes(packet.load(tcp + 2)?);
    Some(())
}

/// `length` is what the IP header says stands behind it.
#[inline(always)]
fn segment<P: Packet>(packet: &P, tcp: usize, length: usize, into: &mut Segment) -> Shape {
    let malformed = Shape::Odd(Oddity::Malformed);
    // Reaching the last fixed field proves that all twenty bytes are there.
    let Some(_urgent) = packet.load::<2>(tcp + 18) else {
        return malformed;
    };
    let Some(seq) = packet.load(tcp + 4) else {
        return malformed;
    };
    let Some(ack) = packet.load(tcp + 8) else {
        return malformed;
    };
    let Some([offset, flags]) = packet.load(tcp + 12) else {
        return malformed;
    };
    let Some(window) = packet.load(tcp + 14) else {
        return malformed;
    };
    let header = ((offset >> 4) as usize) * 4;
    if header < TCP || length < header || length > GIANT {
        return malformed;
    }
    into.offset = offset;
    into.payload = (length - header) as u32;
    into.seq = u32::from_be_bytes(seq);
    into.ack = u32::from_be_bytes(ack);
    into.flags = flags;
    into.window = u16::from_be_bytes(window);
    Shape::Segment
}

/// Four bytes as they stand.
#[inline(always)]
pub(crate) fn word<P: Packet>(packet: &P, offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(packet.load(offset)?))
}

#[inline(always)]
pub(crate) fn address_v6<P: Packet>(packet: &P, offset: usize) -> Option<Address> {
    Some(Address([
        word(packet, offset)?,
        word(packet, offset + 4)?,
        word(packet, offset + 8)?,
        word(packet, offset + 12)?,
    ]))
}

/// A frame in a slice, for the host.
#[derive(Debug)]
pub struct Frame<'a>(pub &'a mut [u8]);

impl Packet for Frame<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.0
            .get_mut(offset..offset.checked_add(N)?)?
            .copy_from_slice(&bytes);
        Some(())
    }

    fn copy_out(&self, offset: usize, into: &mut [u8; ROOM], size: usize) -> Option<()> {
        into.get_mut(..size)?
            .copy_from_slice(self.0.get(offset..offset.checked_add(size)?)?);
        Some(())
    }

    fn copy_in(&mut self, offset: usize, from: &[u8; ROOM], size: usize) -> Option<()> {
        self.0
            .get_mut(offset..offset.checked_add(size)?)?
            .copy_from_slice(from.get(..size)?);
        Some(())
    }

    fn walk(&self, options: &mut Options) {
        for _ in 0..MAX {
            if options.step() == Step::Done {
                break;
            }
        }
    }
}
