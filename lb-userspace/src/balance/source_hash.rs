//! The target by the client's address: Maglev's table (Eisenbud and others, "Maglev:
//! a fast and reliable software network load balancer", NSDI 2016, section 3.4). It
//! depends on the targets' ids alone, so balancers with the same targets agree; and
//! when a target comes or goes, hardly any client of another moves.

use std::net::IpAddr;

use super::{Candidate, mix};

/// Places in the table: a prime, as the walks through it demand, and a hundred times
/// as many as there are targets in most groups, which is what makes shares even.
const PLACES: usize = 65_537;
/// Other places that are tried for a client whose target is not to be had.
const TRIES: u64 = 64;

/// The table.
#[derive(Debug)]
pub(crate) struct SourceHash {
    /// Indices of targets; empty if there are none.
    places: Vec<u32>,
}

impl SourceHash {
    /// Candidates are known by their index from here on.
    pub(crate) fn new(candidates: &[Candidate]) -> Self {
        Self {
            places: fill(candidates),
        }
    }

    /// The index of an address, among those that `allowed` lets pass.
    pub(crate) fn choose(&self, source: IpAddr, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let key = match source.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let key = mix(mix(key as u64) ^ (key >> 64) as u64);
        let tries = (0..TRIES).filter_map(|number| self.place(mix(key.wrapping_add(number))));
        let mut chosen = tries.filter(|index| allowed(*index));
        // Unlucky in all of them: any that is allowed.
        chosen.next().or_else(|| {
            let mut all = self.places.iter().map(|index| *index as usize);
            all.find(|index| allowed(*index))
        })
    }

    fn place(&self, hash: u64) -> Option<usize> {
        let place = hash.checked_rem(self.places.len() as u64)?;
        self.places.get(place as usize).map(|index| *index as usize)
    }
}

/// Every target walks through the table by steps of its own and takes the next free
/// place at each of its turns, until all are taken.
fn fill(candidates: &[Candidate]) -> Vec<u32> {
    let most = candidates.iter().map(|one| one.weight).max().unwrap_or(0);
    if most == 0 {
        return Vec::new();
    }
    // By id, so that it does not matter in which order a file names them.
    let mut walks: Vec<Walk> = (0..).zip(candidates).map(Walk::new).collect();
    walks.sort_by_key(|walk| walk.id);
    let mut places = vec![u32::MAX; PLACES];
    let mut free = PLACES;
    loop {
        for walk in &mut walks {
            walk.credit += walk.weight;
            if walk.credit < most {
                continue;
            }
            walk.credit -= most;
            walk.take(&mut places);
            free -= 1;
            if free == 0 {
                return places;
            }
        }
    }
}

/// A target on its way through the table.
struct Walk {
    index: u32,
    id: u64,
    weight: u32,
    at: usize,
    step: usize,
    /// Turns it is owed; the largest weight makes one.
    credit: u32,
}

impl Walk {
    fn new((index, candidate): (u32, &Candidate)) -> Self {
        let (one, other) = (mix(candidate.id), mix(!candidate.id));
        Self {
            index,
            id: candidate.id,
            weight: candidate.weight,
            at: (one % PLACES as u64) as usize,
            step: (other % (PLACES as u64 - 1)) as usize + 1,
            credit: 0,
        }
    }

    /// There is a free place: the caller counts them.
    fn take(&mut self, places: &mut [u32]) {
        loop {
            let place = places.get_mut(self.at);
            self.at = (self.at + self.step) % PLACES;
            if let Some(place) = place.filter(|place| **place == u32::MAX) {
                *place = self.index;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(ids: impl IntoIterator<Item = u64>) -> Vec<Candidate> {
        ids.into_iter()
            .map(|id| Candidate { id, weight: 1 })
            .collect()
    }

    /// The ids in the table's places.
    fn table(candidates: &[Candidate]) -> Vec<u64> {
        let places = fill(candidates).into_iter();
        places.map(|index| candidates[index as usize].id).collect()
    }

    fn count(table: &[u64], id: u64) -> usize {
        table.iter().filter(|place| **place == id).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn shares_are_even_and_the_order_does_not_matter(
            ids in prop::collection::hash_set(any::<u64>(), 1..40),
        ) {
            let mut ids: Vec<u64> = ids.into_iter().collect();
            let filled = table(&candidates(ids.iter().copied()));
            let share = PLACES / ids.len();
            for id in &ids {
                prop_assert!((share..=share + 1).contains(&count(&filled, *id)));
            }
            ids.reverse();
            prop_assert_eq!(filled, table(&candidates(ids.iter().copied())));
        }

        #[test]
        fn who_leaves_takes_hardly_anybody_along(
            ids in prop::collection::hash_set(any::<u64>(), 2..40),
            which in any::<prop::sample::Index>(),
        ) {
            let ids: Vec<u64> = ids.into_iter().collect();
            let gone = ids[which.index(ids.len())];
            let before = table(&candidates(ids.iter().copied()));
            let after = table(&candidates(ids.iter().copied().filter(|id| *id != gone)));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            // Its own share has to move; of the others' hardly anything.
            let own = count(&before, gone);
            prop_assert!(moved - own < PLACES / 10, "{own} had to move, {moved} did");
        }
    }

    #[test]
    fn weights_are_shares() {
        let weighted = [(1, 1), (2, 2), (3, 5)].map(|(id, weight)| Candidate { id, weight });
        let filled = table(&weighted);
        for (id, share) in [(1, 1), (2, 2), (3, 5)] {
            let expected = PLACES * share / 8;
            let count = count(&filled, id);
            assert!(count.abs_diff(expected) < 10, "{count}, not {expected}");
        }
    }

    #[test]
    fn a_client_stays_and_has_somewhere_else_to_go() {
        let balance = SourceHash::new(&candidates(1..=3));
        let source = IpAddr::from([192, 0, 2, 7]);
        let first = balance.choose(source, |_| true).expect("a target");
        assert_eq!(balance.choose(source, |_| true), Some(first));
        let mapped = "::ffff:192.0.2.7".parse().expect("an address");
        assert_eq!(balance.choose(mapped, |_| true), Some(first));
        let other = balance.choose(source, |index| index != first);
        assert!(other.is_some_and(|other| other != first));
        assert_eq!(balance.choose(source, |_| false), None);
        assert_eq!(SourceHash::new(&[]).choose(source, |_| true), None);
    }
}
