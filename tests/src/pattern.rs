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
        (0..count).map(|_| self.byte()).collect()
    }

    /// How far `received` is what the stream goes on with.
    pub fn check(&mut self, received: &[u8]) -> Result<(), usize> {
        match received.iter().position(|byte| *byte != self.byte()) {
            None => Ok(()),
            Some(position) => Err(position),
        }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.word.len() {
            self.word = self.number().to_le_bytes();
            self.used = 0;
        }
        self.used += 1;
        self.word[self.used - 1]
    }
}
