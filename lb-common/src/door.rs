//! A listener's door: which SYNs may reach the stack, and how often.
//!
//! `LISTENERS` maps a [`Place`] to a [`Door`]; `NETWORKS` is a trie of the [`Network`]s
//! that every door lets in; `SOURCES` keeps for each [`Source`] when its next SYN is due;
//! `REJECTED` counts by listener. Only SYNs of no flow come here, so a change
//! leaves every connection alone.

use crate::flow::{Address, Family};
use crate::packet::{Segment, flags};

/// Networks that all listeners together may let in: a trie of a few thousand stays
/// within the cache, and nobody keeps more by hand.
pub const NETWORKS_MAX: u32 = 4096;

/// Where a listener is bound, as SYNs to it say. (Aligned for the verifier: the
/// compiler joins stores of words, which must not stand askew on the stack.)
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address, or zeros for all of this host (of one family).
    pub address: Address,
    /// The port, in network byte order.
    pub port: u16,
    /// A [`Family`] as number.
    pub family: u8,
    /// Always zero.
    pub reserved: [u8; 5],
}

impl Place {
    /// The address of a listener that is bound to all of this host's.
    pub const ANYWHERE: Address = Address([0; 4]);

    /// A place; `port` in network byte order.
    #[inline(always)]
    pub const fn new(address: Address, port: u16, family: Family) -> Self {
        Place {
            address,
            port,
            family: family as u8,
            reserved: [0; 5],
        }
    }
}

/// What is asked of a SYN to a listener.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// How many SYNs a source may send.
    pub pace: Pace,
    /// The listener's name, hashed.
    pub listener: u32,
    /// Its networks in the trie are those with this number.
    pub networks: u32,
    /// [`Door::RESTRICTED`], [`Door::WITHOUT_ECN`].
    pub flags: u32,
    /// Always zero.
    pub reserved: u32,
}

impl Door {
    /// Only sources in one of its networks come in.
    pub const RESTRICTED: u32 = 1;
    /// Offers of ECN are taken out of SYNs: the kernel cannot carry a connection on
    /// one leg of which it was negotiated.
    pub const WITHOUT_ECN: u32 = 2;

    /// Whether it has all of `mask`.
    #[inline(always)]
    pub const fn has(&self, mask: u32) -> bool {
        self.flags & mask == mask
    }
}

/// What the trie is asked: a door's number, a family and a source, from the first bit
/// on; so one trie serves all doors, and no network of IPv6 lets IPv4 in.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// [`Door::networks`].
    pub number: u32,
    /// A [`Family`] as number.
    pub family: u32,
    /// The source; IPv4 is v4-mapped.
    pub source: Address,
}

impl Network {
    /// Bits in front of the source.
    pub const BITS_BEFORE: u32 = 64;
    /// All bits.
    pub const BITS: u32 = Self::BITS_BEFORE + 128;
    /// Bits of the source in front of an IPv4 address (v4-mapped).
    pub const BITS_MAPPED: u32 = 96;
}

/// Who shares one bucket at a listener: an IPv4 address, or a /64 of IPv6, which is
/// what one host has to itself (RFC 6177).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// The address, of IPv6 its upper half.
    pub address: Address,
    /// [`Door::listener`].
    pub listener: u32,
    /// Always zero.
    pub reserved: u32,
}

impl Source {
    /// The one that `address` is part of.
    #[inline(always)]
    pub const fn of(address: Address, family: u8, listener: u32) -> Self {
        let [a, b, c, d] = address.0;
        let address = match family == Family::V6 as u8 {
            true => Address([a, b, 0, 0]),
            false => Address([a, b, c, d]),
        };
        Source {
            address,
            listener,
            reserved: 0,
        }
    }
}

/// A token bucket in one number, so that one compare-and-swap takes a token: the
/// time at which the next token is due (the generic cell rate algorithm, ITU-T
/// I.371). Times are nanoseconds of one clock, whichever; a new source is due at 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between two tokens; 0: no limit.
    pub interval: u64,
    /// How far ahead of its time a token may be taken: what makes a burst.
    pub slack: u64,
}

impl Pace {
    /// As many as come.
    pub const UNLIMITED: Pace = Pace {
        interval: 0,
        slack: 0,
    };

    /// `rate` tokens a second, at most `burst` at once; a rate of 0 is no limit.
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        if rate == 0 {
            return Self::UNLIMITED;
        }
        let interval = 1_000_000_000 / rate as u64;
        let interval = if interval == 0 { 1 } else { interval };
        Pace {
            interval,
            slack: interval * burst.saturating_sub(1) as u64,
        }
    }

    /// Whether there is a limit.
    #[inline(always)]
    pub const fn is_limited(&self) -> bool {
        self.interval != 0
    }

    /// Whether a source due at `due` finds a token.
    #[inline(always)]
    pub const fn admits(&self, due: u64, now: u64) -> bool {
        due <= now.saturating_add(self.slack)
    }

    /// When it is due after it has taken one.
    #[inline(always)]
    pub const fn next(&self, due: u64, now: u64) -> u64 {
        let from = if due > now { due } else { now };
        from.saturating_add(self.interval)
    }
}

/// Why a SYN or a connection was turned away at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Rejection {
    /// The source is in no network let in.
    Denied = 0,
    /// The source comes too often.
    Limited = 1,
}

impl Rejection {
    /// All, in the order of their numbers.
    pub const ALL: [Rejection; 2] = [Rejection::Denied, Rejection::Limited];

    /// The metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Rejection::Denied => "denied",
            Rejection::Limited => "limited",
        }
    }
}

/// Counts of one listener, by [`Rejection`].
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rejected(pub [u64; Rejection::ALL.len()]);

/// Whether a segment asks for a new connection.
#[inline(always)]
pub const fn knocks(segment: &Segment) -> bool {
    segment.flags & (flags::SYN | flags::ACK) == flags::SYN
}

const _: () = assert!(size_of::<Place>() == 24);
const _: () = assert!(size_of::<Door>() == 32);
const _: () = assert!(size_of::<Network>() == 24);
const _: () = assert!(size_of::<Source>() == 24);

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: repr(C), made of integers only, no padding (size asserted above), so
    // every bit pattern is valid and every byte initialised.
    unsafe impl aya::Pod for Place {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Door {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Network {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Source {}
    // SAFETY: as above; transparent over an array of integers.
    unsafe impl aya::Pod for Rejected {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// Takes a token if there is one.
    fn take(pace: &Pace, due: &mut u64, now: u64) -> bool {
        let admitted = pace.admits(*due, now);
        if admitted {
            *due = pace.next(*due, now);
        }
        admitted
    }

    #[test]
    fn a_burst_then_one_an_interval() {
        let pace = Pace::per_second(10, 10);
        let (mut due, now) = (0, 5 * SECOND);
        let at_once = (0..100).filter(|_| take(&pace, &mut due, now)).count();
        assert_eq!(at_once, 10);
        assert!(!take(&pace, &mut due, now + SECOND / 10 - 1));
        assert!(take(&pace, &mut due, now + SECOND / 10));
        assert!(!take(&pace, &mut due, now + SECOND / 10));
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let pace = Pace::per_second(1, 1);
        let mut due = 0;
        assert!(take(&pace, &mut due, 7));
        assert!(!take(&pace, &mut due, SECOND + 6));
        assert!(take(&pace, &mut due, SECOND + 7));
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(!Pace::per_second(0, 0).is_limited());
    }

    proptest! {
        /// Over any time, whatever the gaps: never more than the burst and the rate.
        #[test]
        fn never_more_than_burst_and_rate(
            rate in 1u32..2000, burst in 1u32..2000,
            gaps in prop::collection::vec(0u64..SECOND / 4, 1..500),
        ) {
            let pace = Pace::per_second(rate, burst);
            let (mut due, start) = (0, SECOND);
            let (mut now, mut taken) = (start, 0u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(take(&pace, &mut due, now));
                let most = u64::from(burst) + (now - start) / pace.interval;
                prop_assert!(taken <= most, "{taken} of {most}");
            }
        }
    }

    #[test]
    fn a_host_of_ipv6_is_a_64() {
        let octets = |last| {
            let mut octets = [0x20; 16];
            octets[15] = last;
            Address::from_octets(octets)
        };
        let of = |last, family| Source::of(octets(last), family as u8, 1);
        assert_eq!(of(1, Family::V6), of(2, Family::V6));
        assert_ne!(of(1, Family::V4), of(2, Family::V4));
    }
}
