//! A target by chance, each with the probability that its weight says.

use super::mix;

/// Draws before every target is looked at: when so many were refused, few are left.
const DRAWS: u64 = 16;

/// Chooses by chance.
#[derive(Debug)]
pub(crate) struct WeightedRandom {
    /// The sum of the weights up to each target's own.
    sums: Vec<u64>,
}

impl WeightedRandom {
    pub(super) fn new(weights: &[u32]) -> Self {
        let mut sum = 0;
        let add = |weight: &u32| {
            sum += u64::from(*weight);
            sum
        };
        Self {
            sums: weights.iter().map(add).collect(),
        }
    }

    /// A draw costs the logarithm of the number of targets.
    pub(super) fn choose(&self, random: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let total = *self.sums.last()?;
        for draw in 0..DRAWS {
            let random = match draw {
                0 => random,
                _ => mix(random.wrapping_add(draw)),
            };
            // A sum of weights is tiny beside 2^64: the remainder is as good as even.
            let point = random.checked_rem(total)?;
            let index = self.sums.partition_point(|sum| *sum <= point);
            if allowed(index) {
                return Some(index);
            }
        }
        self.among_all(random, allowed)
    }

    fn among_all(&self, random: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let before = std::iter::once(&0).chain(&self.sums);
        let weights = self
            .sums
            .iter()
            .zip(before)
            .map(|(sum, before)| sum - before);
        let open = weights.enumerate().filter(|(index, _)| allowed(*index));
        let open: Vec<(usize, u64)> = open.collect();
        let total: u64 = open.iter().map(|(_, weight)| weight).sum();
        let mut left = random.checked_rem(total)?;
        for (index, weight) in open {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return Some(index),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_target() {
        let balance = WeightedRandom::new(&[3, 0, 2]);
        let chosen: Vec<_> = (0..10)
            .filter_map(|random| balance.choose(random, |_| true))
            .collect();
        assert_eq!(chosen, [0, 0, 0, 2, 2, 0, 0, 0, 2, 2]);
        assert_eq!(balance.choose(u64::MAX, |index| index == 2), Some(2));
        assert_eq!(balance.choose(5, |index| index == 1), None);
        assert_eq!(WeightedRandom::new(&[]).choose(1, |_| true), None);
    }
}
