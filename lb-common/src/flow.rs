//! The flow table: keys and the entry.
//!
//! `FLOWS` maps the client leg's [`FlowKey`] to a [`Flow`]; `TARGETS` maps the
//! target leg's key to the client leg's, so each flow is one entry with one
//! state word, created and deleted in one step.

/// Which end a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client; its packets go on to the target.
    Client,
    /// The target; its packets go on to the client.
    Target,
}

impl Side {
    /// Index into [`Flow::halves`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        match self {
            Side::Client => 0,
            Side::Target => 1,
        }
    }

    /// The far end.
    #[inline(always)]
    pub const fn other(self) -> Side {
        match self {
            Side::Client => Side::Target,
            Side::Target => Side::Client,
        }
    }
}

/// IP version of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4; addresses are kept v4-mapped (RFC 4291 section 2.5.5.2).
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// An IP address as it stands in packets (network byte order), in words that the
/// kernel program can compare and copy; IPv4 is v4-mapped.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// The v4-mapped form of an IPv4 address, given as it stands in packets.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Address([0, 0, 0xffff_u32.to_be(), word])
    }

    /// From the sixteen bytes of an IPv6 address.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let mut words = [0; 4];
        let mut i = 0;
        while i < 4 {
            let at = i * 4;
            let bytes = [octets[at], octets[at + 1], octets[at + 2], octets[at + 3]];
            words[i] = u32::from_ne_bytes(bytes);
            i += 1;
        }
        Address(words)
    }

    /// The sixteen bytes of an IPv6 address.
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (to, from) in octets.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        octets
    }
}

/// Addresses and ports of one leg, as its packets to the balancer carry them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tuple {
    /// The far end's address (source of what the balancer receives).
    pub peer: Address,
    /// The balancer's address.
    pub local: Address,
    /// The far end's port, in network byte order.
    pub peer_port: u16,
    /// The balancer's port, in network byte order.
    pub local_port: u16,
}

impl Tuple {
    /// The same leg seen in packets that the balancer sends.
    #[inline(always)]
    pub const fn reversed(&self) -> Tuple {
        Tuple {
            peer: self.local,
            local: self.peer,
            peer_port: self.local_port,
            local_port: self.peer_port,
        }
    }
}

/// Key of `FLOWS` and `TARGETS`: a tuple and its family, because an IPv6 packet
/// may carry v4-mapped addresses that must not meet an IPv4 flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowKey {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// A [`Family`] as number.
    pub family: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

impl FlowKey {
    /// A key of the given family.
    #[inline(always)]
    pub const fn new(tuple: Tuple, family: Family) -> Self {
        FlowKey {
            tuple,
            family: family as u8,
            reserved: [0; 3],
        }
    }
}

/// Constants of a committed flow; written once, before the commit. Until then
/// `seq[0]` has what the SYN to the target may ask for ([`crate::syn::Limits`]). Only
/// the interfaces are kept up to date by packets.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shifts {
    /// Added to sequence numbers from each side, by [`Side::index`]
    /// (`St-Rc`, `Sc-Rt`); acknowledgments from the other side lose it again.
    pub seq: [u32; 2],
    /// Added to TSval from each side; TSecr from the other side loses it again.
    pub stamp: [u32; 2],
    /// Window scale each side applies to the windows it sends (RFC 7323).
    pub scale_sent: [u8; 2],
    /// Window scale the balancer announced to each side.
    pub scale_announced: [u8; 2],
    /// Interface that each side's packets come in by; its own are sent there where the
    /// routing table cannot be asked.
    pub ifindex: [u32; 2],
}

impl Shifts {
    /// Whether an end is on the balancer's own host.
    #[inline(always)]
    pub const fn is_local(&self, side: Side) -> bool {
        self.scale_announced[side.index()] & LOCAL != 0
    }
}

/// The highest legal window scale (RFC 7323 section 2.3) and room for flags.
pub const SCALE_MASK: u8 = 0x0f;
/// In `scale_announced`, from the entry's making on: this end is on the balancer's own
/// host, so its packets come in by the loopback, and by nothing else; the other ends'
/// never do.
pub const LOCAL: u8 = 0x40;
/// In `scale_announced`: blank SACK blocks sent toward the other side, which
/// did not negotiate them.
pub const BLANK_SACK: u8 = 0x80;

/// What the program saw from one side.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Half {
    /// Highest sequence number plus length (SYN and FIN count one) let through.
    pub passed_end: u32,
    /// Latest acknowledgment number.
    pub last_ack: u32,
    /// Latest window field, unscaled, as sent.
    pub window: u32,
    /// Latest TSval.
    pub stamp: u32,
}

/// One connection in the table, 160 bytes.
///
/// With the key, the hash element's own header and allocator rounding a flow
/// takes 256 bytes here and 192 in `TARGETS`, besides 16 a bucket in each.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// The state word, see [`crate::word`].
    pub word: u64,
    /// Unique id; the upper half is the Unix time of its making in seconds.
    pub id: u64,
    /// The target leg.
    pub target: Tuple,
    /// Name of the listener, hashed.
    pub listener: u32,
    /// Name of the target group, hashed.
    pub target_group: u32,
    /// Written by the commit, constant afterwards.
    pub shifts: Shifts,
    /// Written by packets.
    pub halves: [Half; 2],
    /// Last payload from either side, nanoseconds of CLOCK_MONOTONIC.
    pub last_seen: u64,
    /// Payload bytes forwarded, by sending side.
    pub bytes: [u64; 2],
    /// Packets forwarded, by sending side.
    pub packets: [u64; 2],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<Shifts>() == 28);
const _: () = assert!(size_of::<Half>() == 16);
const _: () = assert!(core::mem::offset_of!(Flow, last_seen) == 120);
const _: () = assert!(size_of::<Flow>() == 160);

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: repr(C), made of integers only, no padding (sizes asserted above),
    // so every bit pattern is valid and every byte initialised.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow {}
}
