//! Who may come in at a listener: its admission, and the daemon's own door for what no
//! kernel program has looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use lb_common::door::{Pace, Rejection};

/// Sources remembered at once; the kernel's table has as many.
const SOURCES: usize = 65_536;

/// What the configuration says of a listener's door.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Networks let in; `None`: everyone.
    pub(crate) allow: Option<Vec<IpNet>>,
    /// New connections per second and source; 0: no limit.
    pub(crate) rate: u32,
}

impl Admission {
    /// The rate, a second's worth at once.
    pub(crate) fn pace(&self) -> Pace {
        Pace::per_second(self.rate, self.rate)
    }

    fn allows(&self, source: IpAddr) -> bool {
        let networks = self.allow.as_ref();
        networks.is_none_or(|all| all.iter().any(|network| network.contains(&source)))
    }
}

/// The daemon's door at one listener.
#[derive(Debug)]
pub(crate) struct Door {
    admission: Admission,
    pace: Pace,
    /// When a source's next connection is due, in nanoseconds since `epoch`.
    due: Mutex<HashMap<IpAddr, u64>>,
    epoch: Instant,
}

impl Door {
    /// For connections that nothing has judged.
    pub(crate) fn first(admission: Admission) -> Self {
        let pace = admission.pace();
        Self::paced(admission, pace)
    }

    /// For connections of which the kernel has judged most. They come in less evenly
    /// here than there, so a burst may be twice as long: none fails twice.
    pub(crate) fn second(admission: Admission) -> Self {
        let pace = Pace::per_second(admission.rate, admission.rate.saturating_mul(2));
        Self::paced(admission, pace)
    }

    fn paced(admission: Admission, pace: Pace) -> Self {
        Self {
            admission,
            pace,
            due: Mutex::default(),
            epoch: Instant::now(),
        }
    }

    /// Whether a connection from `source` may come in.
    pub(crate) fn admit(&self, source: IpAddr, now: Instant) -> Result<(), Rejection> {
        let source = source.to_canonical();
        if !self.admission.allows(source) {
            return Err(Rejection::Denied);
        }
        if self.pace.is_limited() && !self.take_token(source, now) {
            return Err(Rejection::Limited);
        }
        Ok(())
    }

    fn take_token(&self, source: IpAddr, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.epoch);
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let source = sharing(source);
        // Its numbers are whole after each step.
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= SOURCES && !due.contains_key(&source) {
            forget(&mut due, now);
        }
        let due = due.entry(source).or_default();
        let admitted = self.pace.admits(*due, now);
        if admitted {
            *due = self.pace.next(*due, now);
        }
        admitted
    }
}

/// Who shares a bucket, as in `lb_common::door::Source`.
pub(crate) fn sharing(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

/// Those whose bucket is full again need not be remembered. Where that frees less
/// than half, all are forgotten: a burst too many, but never a walk per connection.
fn forget(due: &mut HashMap<IpAddr, u64>, now: u64) {
    due.retain(|_, due| *due > now);
    if due.len() > SOURCES / 2 {
        due.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission(allow: &[&str], rate: u32) -> Admission {
        let networks = allow.iter().map(|text| text.parse().expect("a network"));
        Admission {
            allow: Some(networks.collect()),
            rate,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_the_networks_named_come_in() {
        let now = Instant::now();
        let door = Door::first(admission(&["10.0.0.0/8", "fd00::/8"], 0));
        for (source, expected) in [
            ("10.255.0.1", Ok(())),
            ("::ffff:10.0.0.1", Ok(())),
            ("11.0.0.1", Err(Rejection::Denied)),
            ("fd12::1", Ok(())),
            ("fe80::1", Err(Rejection::Denied)),
        ] {
            assert_eq!(door.admit(ip(source), now), expected, "{source}");
        }
    }

    #[test]
    fn a_network_of_ipv6_lets_no_ipv4_in() {
        let now = Instant::now();
        let door = Door::first(admission(&["::/1"], 0));
        assert_eq!(door.admit(ip("10.0.0.1"), now), Err(Rejection::Denied));
    }

    #[test]
    fn without_rules_everyone_comes_in() {
        let now = Instant::now();
        let door = Door::first(Admission::default());
        for _ in 0..1000 {
            assert_eq!(door.admit(ip("10.0.0.1"), now), Ok(()));
        }
        assert_eq!(door.admit(ip("fd00::1"), now), Ok(()));
    }

    #[test]
    fn each_source_has_its_own_rate() {
        let admission = Admission {
            rate: 2,
            ..Admission::default()
        };
        for (door, burst) in [
            (Door::first(admission.clone()), 2),
            (Door::second(admission), 4),
        ] {
            let now = door.epoch;
            for source in ["10.0.0.1", "10.0.0.2", "fd00:0:0:1::1", "fd00:0:0:2::1"] {
                let admitted = (0..10).filter(|_| door.admit(ip(source), now).is_ok());
                assert_eq!(admitted.count(), burst, "{source}");
            }
            let neighbour = door.admit(ip("fd00:0:0:1::2"), now);
            assert_eq!(neighbour, Err(Rejection::Limited), "of the same /64");
            let later = now + Duration::from_millis(500);
            assert_eq!(door.admit(ip("10.0.0.1"), later), Ok(()));
            assert_eq!(door.admit(ip("10.0.0.1"), later), Err(Rejection::Limited));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let door = Door::first(Admission {
            rate: 1,
            ..Admission::default()
        });
        for number in 0..SOURCES as u32 * 2 {
            assert_eq!(door.admit(IpAddr::V4(number.into()), now), Ok(()));
        }
        assert!(door.due.lock().expect("not poisoned").len() <= SOURCES);
    }
}
