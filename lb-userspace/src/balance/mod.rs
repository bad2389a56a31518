//! Balancing: which target gets the next session. No I/O, no clock; randomness is
//! an argument. Targets are known by their index among those that may be chosen.

mod least_outstanding;
mod round_robin;
mod source_hash;
mod weighted_random;

use std::net::IpAddr;

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
        let weights = candidates.iter().map(|one| one.weight).collect();
        match algorithm {
            Algorithm::RoundRobin => Self::RoundRobin(RoundRobin::new(weights)),
            Algorithm::LeastOutstanding => Self::LeastOutstanding(LeastOutstanding::new(weights)),
            Algorithm::WeightedRandom => Self::WeightedRandom(WeightedRandom::new(weights)),
            Algorithm::SourceHash => Self::SourceHash(SourceHash::new(candidates)),
        }
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
            Self::LeastOutstanding(balance) => balance.choose(allowed, outstanding),
            Self::WeightedRandom(balance) => balance.choose(request.random, allowed),
            Self::SourceHash(balance) => balance.choose(request.source, allowed),
        }
    }
}
