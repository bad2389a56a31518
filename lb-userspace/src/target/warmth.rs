//! Slow start: a target that comes to others that are at work gets its share bit by bit,
//! while it fills its caches and opens its connections.
//!
//! ```text
//!   Cold (registered) ── healthy, others work ──▶ Warming ── slow_start is over ──▶ as Warm
//!     ▲                                             │
//!     └──────────────── unhealthy ──────────────────┘
//! ```
//! Targets that the daemon starts with are warm, and so is one that nobody else works
//! beside: a share of everything is everything.

use std::time::Duration;

use tokio::time::Instant;

use super::health::Health;

/// What the least of shares is parted into.
pub(crate) const WHOLE: u64 = 1000;

/// How far a target is in its slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// It starts slowly when it becomes healthy.
    Cold,
    /// It has its whole share.
    Warm,
    /// It has a share that grows.
    Warming { since: Instant, until: Instant },
}

impl Warmth {
    /// What it is once the target's health is this.
    pub(super) fn at(
        self,
        health: &Health,
        others_work: bool,
        slow_start: Duration,
        now: Instant,
    ) -> Self {
        match (health, self) {
            (Health::Initial, warmth) => warmth,
            (Health::Unhealthy(_), _) => Self::Cold,
            (Health::Healthy, Self::Cold) if others_work && !slow_start.is_zero() => {
                let until = now + slow_start;
                Self::Warming { since: now, until }
            }
            (Health::Healthy, Self::Cold) => Self::Warm,
            (Health::Healthy, warmth) => warmth,
        }
    }

    /// The share of its share, in thousandths; never nothing, or it would not warm up.
    pub(crate) fn share(self, now: Instant) -> u64 {
        match self {
            Self::Cold | Self::Warm => WHOLE,
            Self::Warming { since, until } => {
                let whole = until.duration_since(since).as_nanos().max(1);
                let past = now.duration_since(since).as_nanos();
                let share = past * u128::from(WHOLE) / whole;
                u64::try_from(share).unwrap_or(WHOLE).clamp(1, WHOLE)
            }
        }
    }

    /// Whether it has its whole share now.
    pub(crate) fn is_warm(self, now: Instant) -> bool {
        self.share(now) == WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::Failure;
    use super::*;

    const SLOW: Duration = Duration::from_secs(100);
    const SICK: Health = Health::Unhealthy(Failure::Refused);

    #[test]
    fn the_share_grows_evenly() {
        let begun = Instant::now();
        let warming = Warmth::Cold.at(&Health::Healthy, true, SLOW, begun);
        let share = |seconds| warming.share(begun + Duration::from_secs(seconds));
        assert_eq!(
            [0, 1, 25, 50, 99, 100, 5_000].map(share),
            [1, 10, 250, 500, 990, 1000, 1000]
        );
        assert!(!warming.is_warm(begun) && warming.is_warm(begun + SLOW));
    }

    #[test]
    fn who_starts_slowly() {
        let now = Instant::now();
        let becomes = |warmth: Warmth, health, others| warmth.at(&health, others, SLOW, now);
        assert_eq!(becomes(Warmth::Warm, Health::Healthy, true), Warmth::Warm);
        assert_eq!(becomes(Warmth::Cold, Health::Healthy, false), Warmth::Warm);
        assert_eq!(becomes(Warmth::Warm, SICK, true), Warmth::Cold);
        let off = Warmth::Cold.at(&Health::Healthy, true, Duration::ZERO, now);
        assert_eq!(off, Warmth::Warm);
        let warming = becomes(Warmth::Cold, Health::Healthy, true);
        assert!(matches!(warming, Warmth::Warming { .. }));
        assert_eq!(becomes(warming, Health::Healthy, true), warming);
        assert_eq!(becomes(warming, SICK, true), Warmth::Cold);
    }
}
