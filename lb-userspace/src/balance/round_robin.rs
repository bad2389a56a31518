//! Smooth weighted round robin: each target gets its share, evenly spread
//! (a, b, a, c, a rather than a, a, a, b, c for the weights 3, 1, 1).

use std::sync::{Mutex, PoisonError};

/// Takes turns among targets, known by their index.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    weights: Vec<u32>,
    credit: Mutex<Vec<i64>>,
}

impl RoundRobin {
    /// One weight per target; zero gets no turn.
    pub(crate) fn new(weights: Vec<u32>) -> Self {
        let credit = Mutex::new(vec![0; weights.len()]);
        Self { weights, credit }
    }

    /// Whose turn it is, among those that `allowed` lets pass.
    pub(crate) fn next(&self, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, (credit, weight)) in credit.iter_mut().zip(&self.weights).enumerate() {
            if *weight == 0 || !allowed(index) {
                continue;
            }
            *credit += i64::from(*weight);
            total += i64::from(*weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (chosen, _) = best?;
        if let Some(credit) = credit.get_mut(chosen) {
            *credit -= total;
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
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
}
