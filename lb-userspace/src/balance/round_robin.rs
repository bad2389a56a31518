//! Weighted round robin by deadlines: each target has its turns evenly spread in time
//! (a, b, a, c, a rather than a, a, a, b, c for the weights 3, 1, 1), and the next one is
//! whoever's turn comes first. A turn costs the logarithm of the number of targets.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Mutex, PoisonError};

/// Between two turns of a target of weight 1. Turns of the weight 999 are apart by a
/// millionth of that and less: no share is off by more.
const PERIOD: u128 = 1 << 40;
/// Turns that are tried in order; then any that is allowed is as good.
const TRIES: usize = 64;

/// Takes turns among targets, known by their index.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    weights: Vec<u32>,
    /// When each has its next turn, the earliest first.
    turns: Mutex<BinaryHeap<Reverse<(u128, usize)>>>,
}

impl RoundRobin {
    /// One weight per target; zero gets no turn.
    pub(crate) fn new(weights: Vec<u32>) -> Self {
        let turns = Mutex::new(first_turns(&weights));
        Self { weights, turns }
    }

    /// Whose turn it is, among those that `allowed` lets pass. Who is not let pass has
    /// had a turn.
    pub(crate) fn next(&self, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let mut first = turns.peek_mut()?;
            let Reverse((turn, index)) = *first;
            *first = Reverse((turn + period(self.weight(index)), index));
            drop(first);
            if allowed(index) {
                return Some(index);
            }
        }
        let all = turns.iter().map(|Reverse((_, index))| *index);
        let mut allowed = all.filter(|index| allowed(*index));
        allowed.next()
    }

    fn weight(&self, index: usize) -> u32 {
        self.weights.get(index).copied().unwrap_or_default()
    }
}

fn period(weight: u32) -> u128 {
    PERIOD / u128::from(weight.max(1))
}

/// Those of one weight are spread over their period, in the middle of equal parts of it.
fn first_turns(weights: &[u32]) -> BinaryHeap<Reverse<(u128, usize)>> {
    let mut alike = HashMap::<u32, (u128, u128)>::new();
    for weight in weights {
        alike.entry(*weight).or_default().1 += 1;
    }
    let mut turns = BinaryHeap::with_capacity(weights.len());
    for (index, weight) in weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
    {
        let (before, count) = alike.entry(*weight).or_default();
        let turn = period(*weight) * (2 * *before + 1) / (2 * *count);
        *before += 1;
        turns.push(Reverse((turn, index)));
    }
    turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(balance: &RoundRobin, count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| balance.next(|_| true)).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(
            turns(&RoundRobin::new(vec![1, 1, 1]), 6),
            [0, 1, 2, 0, 1, 2]
        );
    }

    #[test]
    fn weights_are_spread_smoothly() {
        assert_eq!(turns(&RoundRobin::new(vec![3, 1, 1]), 5), [0, 1, 0, 2, 0]);
    }

    #[test]
    fn weight_zero_and_refused_ones_get_no_turn() {
        let balance = RoundRobin::new(vec![1, 0, 1]);
        assert_eq!(turns(&balance, 4), [0, 2, 0, 2]);
        assert_eq!(balance.next(|index| index == 1), None);
        assert_eq!(balance.next(|index| index == 2), Some(2));
        assert_eq!(RoundRobin::new(vec![]).next(|_| true), None);
    }

    proptest! {
        /// Each is at most a turn from its share of the time that has passed, and so is
        /// each of the others that the time is told by.
        #[test]
        fn shares_are_exact_at_any_time(
            weights in prop::collection::vec(1..=999u32, 1..20),
            count in 1..2_000usize,
        ) {
            let mut had = vec![0usize; weights.len()];
            let balance = RoundRobin::new(weights.clone());
            for index in turns(&balance, count) {
                had[index] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (had, weight) in had.iter().zip(&weights) {
                let share = count as f64 * f64::from(*weight) / f64::from(total);
                let bound = 1.0 + weights.len() as f64;
                prop_assert!((*had as f64 - share).abs() <= bound, "{had} of {share}");
            }
        }
    }

    #[test]
    fn one_among_many_that_are_refused_is_found() {
        let balance = RoundRobin::new(vec![1; 1_000]);
        for _ in 0..3 {
            assert_eq!(balance.next(|index| index == 777), Some(777));
        }
        assert_eq!(balance.next(|_| false), None);
    }
}
