//! Source ports toward targets.
//!
//! Once the sockets of a flow are closed the kernel takes its source port for
//! free, so the choice is the daemon's: from a range outside the kernel's own,
//! never a port of a live flow, and a freed one only after a rest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Rest of a port whose target closed first: its TIME_WAIT (TCP_TIMEWAIT_LEN).
pub(super) const REST_TIME_WAIT: Duration = Duration::from_secs(60);
/// Rest of any other port: packets still under way.
pub(super) const REST_BRIEF: Duration = Duration::from_secs(2);

/// The ports between one source address and one target.
pub(super) type Route = (IpAddr, SocketAddr);

/// All pools; made as targets are met.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    start: u16,
    pools: HashMap<Route, Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Ports never given out yet, counted from `start` around the range.
    fresh: u32,
    used: HashSet<u16>,
    /// Freed ports with the time they are ready at, in order of being freed.
    resting: VecDeque<(Instant, u16)>,
}

impl Ports {
    /// Pools over `range`. `start` shifts the first port given out, so that a
    /// restarted daemon does not begin with the ports its predecessor just left.
    pub(super) fn new(range: RangeInclusive<u16>, start: u16) -> Self {
        Self {
            range,
            start,
            pools: HashMap::new(),
        }
    }

    /// A port, or `None` while all are used or resting.
    pub(super) fn take(&mut self, route: Route, now: Instant) -> Option<u16> {
        let (first, size, start) = (*self.range.start(), self.capacity(), u32::from(self.start));
        let pool = self.pools.entry(route).or_default();
        while pool.fresh < size {
            let port = first + ((start + pool.fresh) % size) as u16;
            pool.fresh += 1;
            if pool.used.insert(port) {
                return Some(port);
            }
        }
        // Rests differ, so the first that is ready need not stand in front.
        let ready = pool.resting.iter().position(|(at, _)| *at <= now)?;
        let (_, port) = pool.resting.remove(ready)?;
        pool.used.insert(port);
        Some(port)
    }

    /// Books the port of a flow found in the table.
    pub(super) fn adopt(&mut self, route: Route, port: u16) {
        let pool = self.pools.entry(route).or_default();
        pool.used.insert(port);
    }

    /// Gives a port back; it is given out again after `rest`.
    pub(super) fn release(&mut self, route: Route, port: u16, rest: Duration, now: Instant) {
        let Some(pool) = self.pools.get_mut(&route) else {
            return;
        };
        if pool.used.remove(&port) && self.range.contains(&port) {
            pool.resting.push_back((now + rest, port));
        }
    }

    /// Ports in use per target, resting ones not counted.
    pub(super) fn used(&self) -> Vec<(SocketAddr, u64)> {
        self.pools
            .iter()
            .map(|((_, target), pool)| (*target, pool.used.len() as u64))
            .collect()
    }

    /// Ports per source address and target.
    pub(super) fn capacity(&self) -> u32 {
        u32::from(*self.range.end()) - u32::from(*self.range.start()) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        ("10.0.0.1".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
    }

    #[test]
    fn every_port_once_then_none_then_the_rested_one() {
        let now = Instant::now();
        let mut ports = Ports::new(100..=102, 7);
        let mut taken: Vec<_> = (0..3).map(|_| ports.take(route(), now).unwrap()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [100, 101, 102]);
        assert_eq!(ports.take(route(), now), None);
        ports.release(route(), 101, REST_TIME_WAIT, now);
        ports.release(route(), 102, REST_BRIEF, now);
        assert_eq!(ports.take(route(), now + REST_BRIEF), Some(102));
        assert_eq!(ports.take(route(), now + REST_BRIEF), None);
        assert_eq!(ports.take(route(), now + REST_TIME_WAIT), Some(101));
    }

    #[test]
    fn an_adopted_port_is_not_given_out() {
        let now = Instant::now();
        let mut ports = Ports::new(100..=101, 0);
        ports.adopt(route(), 100);
        assert_eq!(ports.take(route(), now), Some(101));
        assert_eq!(ports.take(route(), now), None);
        ports.release(route(), 100, Duration::ZERO, now);
        assert_eq!(ports.take(route(), now), Some(100));
    }
}
