//! The target with the least to do for its weight; those that are alike take turns. Of
//! many, the least of some that are drawn by chance: Mitzenmacher's power of choices, by
//! which even two keep the most loaded close to the mean.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::mix;

/// Up to so many, all are looked at.
const ALL: usize = 128;
/// Of more, so many.
const DRAWN: u64 = 32;

/// Chooses by load.
#[derive(Debug)]
pub(crate) struct LeastOutstanding {
    weights: Vec<u32>,
    /// Where the next look begins, so that the first of equals is not always one.
    next: AtomicUsize,
}

impl LeastOutstanding {
    pub(super) fn new(weights: Vec<u32>) -> Self {
        Self {
            weights,
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn choose(
        &self,
        random: u64,
        allowed: impl Fn(usize) -> bool,
        outstanding: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let count = self.weights.len();
        if count > ALL {
            let draw = |number| (mix(random.wrapping_add(number)) % count as u64) as usize;
            let drawn = self.least((0..DRAWN).map(draw), &allowed, &outstanding);
            // Unlucky in all of them: any that is allowed.
            return drawn.or_else(|| self.least(0..count, &allowed, &outstanding));
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let all = (0..count).map(|step| start.wrapping_add(step) % count);
        self.least(all, &allowed, &outstanding)
    }

    fn least(
        &self,
        among: impl Iterator<Item = usize>,
        allowed: impl Fn(usize) -> bool,
        outstanding: impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let mut best: Option<(usize, u128, u128)> = None;
        for index in among {
            let Some(weight) = self.weights.get(index).filter(|_| allowed(index)) else {
                continue;
            };
            // With the one that is chosen for: else a weight would not tell idle
            // targets apart.
            let (load, weight) = (u128::from(outstanding(index)) + 1, u128::from(*weight));
            // load / weight < least / of, without a division.
            if best.is_none_or(|(_, least, of)| load * of < least * weight) {
                best = Some((index, load, weight));
            }
        }
        best.map(|(index, _, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each has after this many sessions that do not end.
    fn after(weights: Vec<u32>, loads: &[u64], sessions: usize) -> Vec<u64> {
        let balance = LeastOutstanding::new(weights);
        let mut loads = loads.to_vec();
        for _ in 0..sessions {
            let chosen = balance.choose(0, |_| true, |index| loads[index]);
            loads[chosen.expect("a target")] += 1;
        }
        loads
    }

    #[test]
    fn fills_up_those_that_have_less() {
        assert_eq!(after(vec![1, 1, 1], &[5, 0, 2], 5), [5, 4, 3]);
        assert_eq!(after(vec![1, 1, 1], &[5, 0, 2], 8), [5, 5, 5]);
    }

    #[test]
    fn weights_are_shares() {
        assert_eq!(after(vec![3, 1], &[0, 0], 40), [30, 10]);
    }

    #[test]
    fn equals_take_turns_and_the_refused_none() {
        let balance = LeastOutstanding::new(vec![1, 1, 1]);
        let turns = (0..3).filter_map(|_| balance.choose(0, |_| true, |_| 7));
        assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(balance.choose(0, |index| index == 1, |_| 0), Some(1));
        assert_eq!(balance.choose(0, |_| false, |_| 0), None);
        assert_eq!(
            LeastOutstanding::new(vec![]).choose(0, |_| true, |_| 0),
            None
        );
    }

    #[test]
    fn of_many_a_lightly_loaded_one_is_found() {
        let balance = LeastOutstanding::new(vec![1; 1_000]);
        let load = |index| if index % 2 == 0 { 100 } else { 1 };
        for random in 0..1_000 {
            // All of 32 draws are even once in four thousand million times.
            let chosen = balance.choose(random, |_| true, load);
            assert!(chosen.is_some_and(|index| index % 2 == 1));
        }
        assert_eq!(balance.choose(0, |index| index == 7, load), Some(7));
        assert_eq!(balance.choose(0, |_| false, load), None);
    }
}
