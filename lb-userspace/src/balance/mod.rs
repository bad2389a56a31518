//! Balancing: which target gets the next session. No I/O, no clock; randomness is
//! an argument. Targets are known by their index among those that may be chosen.

mod least_outstanding;
mod round_robin;
mod source_hash;
mod weighted_random;

use std::net::IpAddr;

use tokio::time::Instant;

use least_outstanding::LeastOutstanding;
pub(crate) use round_robin::RoundRobin;
pub(crate) use source_hash::SourceHash;
use weighted_random::WeightedRandom;

use crate::config::Algorithm;

/// A target, as far as balancing is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The same on every balancer.
    pub(crate) id: u64,
    /// More than zero.
    pub(crate) weight: u32,
}

/// What a choice may depend on besides the targets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) source: IpAddr,
    pub(crate) random: u64,
    pub(crate) now: Instant,
}

/// An algorithm with the targets that it chooses among.
#[derive(Debug)]
pub(crate) enum Balance {
    RoundRobin(RoundRobin),
    LeastOutstanding(LeastOutstanding),
    WeightedRandom(WeightedRandom),
    SourceHash(SourceHash),
}

impl Balance {
    pub(crate) fn new(algorithm: Algorithm, candidates: &[Candidate]) -> Self {
        let weights: Vec<u32> = candidates.iter().map(|one| one.weight).collect();
        match algorithm {
            Algorithm::RoundRobin => Self::RoundRobin(RoundRobin::new(weights)),
            Algorithm::LeastOutstanding => Self::LeastOutstanding(LeastOutstanding::new(weights)),
            Algorithm::WeightedRandom => Self::WeightedRandom(WeightedRandom::new(&weights)),
            Algorithm::SourceHash => Self::SourceHash(SourceHash::new(candidates)),
        }
    }

    /// Whether it is by what targets have to do.
    pub(crate) fn is_by_load(&self) -> bool {
        matches!(self, Self::LeastOutstanding(_))
    }

    /// The index of the choice, among those that `allowed` lets pass;
    /// `outstanding` is how much each has to do.
    pub(crate) fn choose(
        &self,
        request: Request,
        allowed: impl Fn(usize) -> bool,
        outstanding: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(balance) => balance.next(allowed),
            Self::LeastOutstanding(balance) => balance.choose(request.random, allowed, outstanding),
            Self::WeightedRandom(balance) => balance.choose(request.random, allowed),
            Self::SourceHash(balance) => balance.choose(request.source, allowed),
        }
    }
}

/// SplitMix64's finalizer: every bit of the input moves half of the output's.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
