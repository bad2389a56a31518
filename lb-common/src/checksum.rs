//! Incremental Internet checksums (RFC 1624): a packet is never summed again,
//! only the difference of what was changed is carried over.

use crate::flow::Address;
use crate::packet::Packet;

/// A difference of 16-bit words in one's complement, network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Diff(u64);

impl Diff {
    /// No change.
    pub const NONE: Diff = Diff(0);

    /// Accounts for a 16-bit word replaced at an even offset.
    #[inline(always)]
    pub const fn word(self, old: u16, new: u16) -> Diff {
        Diff(self.0 + (!old as u64) + new as u64)
    }

    /// Accounts for 32 bits replaced at an even offset.
    #[inline(always)]
    pub const fn long(self, old: u32, new: u32) -> Diff {
        self.word((old >> 16) as u16, (new >> 16) as u16)
            .word(old as u16, new as u16)
    }

    /// Accounts for 32 bits replaced at any offset: at an odd one each byte
    /// stands in the other half of its checksum word. (No branch: the verifier
    /// would follow both ways at every option.)
    #[inline(always)]
    pub const fn long_at(self, offset: usize, old: u32, new: u32) -> Diff {
        let change = Diff::NONE.long(old, new).fold() as u32;
        let turn = (offset as u32 & 1) * 8;
        let turned = (change << turn | change >> (16 - turn)) & 0xffff;
        Diff(self.0 + turned as u64)
    }

    /// Accounts for one byte replaced.
    #[inline(always)]
    pub const fn byte_at(self, offset: usize, old: u8, new: u8) -> Diff {
        let place = (offset as u32 & 1 ^ 1) * 8;
        self.word((old as u16) << place, (new as u16) << place)
    }

    /// Accounts for a whole IPv6 address.
    #[inline(always)]
    pub const fn address(self, old: &Address, new: &Address) -> Diff {
        self.raw(old.0[0], new.0[0])
            .raw(old.0[1], new.0[1])
            .raw(old.0[2], new.0[2])
            .raw(old.0[3], new.0[3])
    }

    /// Accounts for 32 bits given as they stand in the packet.
    #[inline(always)]
    pub const fn raw(self, old: u32, new: u32) -> Diff {
        self.long(u32::from_be(old), u32::from_be(new))
    }

    /// Adds a difference that was folded before.
    #[inline(always)]
    pub const fn folded(self, change: u16) -> Diff {
        Diff(self.0 + change as u64)
    }

    /// The sum of both differences.
    #[inline(always)]
    pub const fn and(self, other: Diff) -> Diff {
        Diff(self.0 + other.0)
    }

    /// The difference in 16 bits.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        // 64 bits hold far more words than a header has; three folds leave no carry.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// The checksum field after the change.
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        !Diff(self.0 + !checksum as u64).fold()
    }

    /// The difference as the kernel's `__wsum`, for `bpf_l4_csum_replace`.
    #[inline(always)]
    pub const fn to_wsum(self) -> u64 {
        self.fold().to_be() as u64
    }
}

/// A sum of 16-bit words in one's complement (RFC 1071), for a packet that is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum(Diff);

impl Sum {
    /// Of no words.
    pub const NONE: Sum = Sum(Diff::NONE);

    /// Adds one word, in host order.
    #[inline(always)]
    pub const fn word(self, word: u16) -> Sum {
        // What replaces minus zero has been added.
        Sum(self.0.word(0xffff, word))
    }

    /// Adds `LONGS` times four bytes of a packet; `None` beyond its end.
    #[inline(always)]
    pub fn over<const LONGS: usize, P: Packet>(self, packet: &P, offset: usize) -> Option<Sum> {
        let mut sum = self;
        for long in 0..LONGS {
            let bytes = u32::from_be_bytes(packet.load(offset + long * 4)?);
            sum = sum.word((bytes >> 16) as u16).word(bytes as u16);
        }
        Some(sum)
    }

    /// Both sums.
    #[inline(always)]
    pub const fn and(self, other: Sum) -> Sum {
        Sum(self.0.and(other.0))
    }

    /// The field that makes the sum over it, too, all ones.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.0.fold()
    }
}

/// The checksum over whole bytes; the reference for tests.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0u64;
    for pair in bytes.chunks(2) {
        let low = if pair.len() == 2 { pair[1] } else { 0 };
        total += u16::from_be_bytes([pair[0], low]) as u64;
    }
    !Diff(total).fold()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_changed_long_gives_the_checksum_of_the_changed_bytes(
            mut bytes in prop::array::uniform32(any::<u8>()), at in 0usize..28, new: u32,
        ) {
            let before = sum(&bytes);
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let after = Diff::NONE.long_at(at, old, new).apply(before);
            prop_assert!(same(after, sum(&bytes)));
        }

        #[test]
        fn a_changed_byte_gives_the_checksum_of_the_changed_bytes(
            mut bytes in prop::array::uniform32(any::<u8>()), at in 0usize..32, new: u8,
        ) {
            let before = sum(&bytes);
            let after = Diff::NONE.byte_at(at, bytes[at], new).apply(before);
            bytes[at] = new;
            prop_assert!(same(after, sum(&bytes)));
        }
    }

    /// Zero has two forms in one's complement.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a ^ b) == 0xffff && (a == 0 || b == 0)
    }
}
