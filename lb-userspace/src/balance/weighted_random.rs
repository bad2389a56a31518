//! A target by chance, each with the probability that its weight says.

/// Chooses by chance.
#[derive(Debug)]
pub(crate) struct WeightedRandom {
    weights: Vec<u32>,
}

impl WeightedRandom {
    pub(super) fn new(weights: Vec<u32>) -> Self {
        Self { weights }
    }

    pub(super) fn choose(&self, random: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let open = || {
            let all = self.weights.iter().enumerate();
            all.filter(|(index, _)| allowed(*index))
        };
        let total: u64 = open().map(|(_, weight)| u64::from(*weight)).sum();
        // A sum of weights is tiny beside 2^64: the remainder is as good as even.
        let mut left = random.checked_rem(total)?;
        for (index, weight) in open() {
            match left.checked_sub(u64::from(*weight)) {
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
        let balance = WeightedRandom::new(vec![3, 0, 2]);
        let chosen: Vec<_> = (0..10)
            .filter_map(|random| balance.choose(random, |_| true))
            .collect();
        assert_eq!(chosen, [0, 0, 0, 2, 2, 0, 0, 0, 2, 2]);
        assert_eq!(balance.choose(u64::MAX, |index| index == 2), Some(2));
        assert_eq!(balance.choose(5, |index| index == 1), None);
        assert_eq!(WeightedRandom::new(vec![]).choose(1, |_| true), None);
    }
}
