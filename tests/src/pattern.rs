//! Pseudo-random bytes that both ends can make by themselves, so that every
//! byte received can be checked against the one that must have been sent.

/// An endless stream of bytes, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            word: [0; 8],
            used: 8,
        }
    }

    /// The next number (splitmix64).
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// The next `count` bytes of the stream.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + self.word.len());
        bytes.extend_from_slice(&self.word[self.used..]);
        while bytes.len() < count {
            self.word = self.number().to_le_bytes();
            bytes.extend_from_slice(&self.word);
        }
        self.used = self.word.len() - (bytes.len() - count);
        bytes.truncate(count);
        bytes
    }

    /// How far `received` is what the stream goes on with.
    pub fn check(&mut self, received: &[u8]) -> Result<(), usize> {
        let expected = self.bytes(received.len());
        match received == expected {
            true => Ok(()),
            false => Err(received
                .iter()
                .zip(&expected)
                .take_while(|(a, b)| a == b)
                .count()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_is_taken_it_is_the_same() {
        let whole = Pattern::new(5).bytes(1000);
        let mut pieces = Pattern::new(5);
        let mut taken = Vec::new();
        for length in [0, 1, 7, 8, 9, 0, 100, 3, 872] {
            taken.extend(pieces.bytes(length));
        }
        assert_eq!(taken, whole);
    }

    #[test]
    fn the_first_wrong_byte_is_found() {
        let mut bytes = Pattern::new(6).bytes(50);
        bytes[33] ^= 1;
        let mut pattern = Pattern::new(6);
        assert_eq!(pattern.check(&bytes[..20]), Ok(()));
        assert_eq!(pattern.check(&bytes[20..]), Err(13));
    }
}
