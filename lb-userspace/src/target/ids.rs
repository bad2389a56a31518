//! Which target has answered with which id of the application's, in the stickiness
//! modes `header` and `query`: the memory of one target group on this host, lost with
//! the daemon. Reads no clock.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::config::Stickiness;

/// Sessions that are remembered, in some 10 MB: beyond that the one that was quiet
/// longest is forgotten.
const MOST: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// The ids of one group.
#[derive(Debug)]
pub(crate) struct Ids {
    /// Seconds that an id is good for after it was last met.
    duration: u64,
    /// Ids are kept as hashes: each takes the same room, and nobody outside knows which
    /// ids would share one.
    hasher: RandomState,
    known: Mutex<LruCache<u64, Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    target: u64,
    /// Seconds since 1970.
    met: u64,
}

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is a session of this target.
    Of(u64),
    /// It was, longer ago than sessions last.
    Expired,
    /// Nothing.
    Never,
}

impl Ids {
    pub(super) fn new(config: Option<&Stickiness>) -> Self {
        Self {
            duration: config.map_or(0, |config| config.duration.as_secs()),
            hasher: RandomState::new(),
            // Takes its room as ids come.
            known: Mutex::new(LruCache::unbounded()),
        }
    }

    /// Whose session this is; it is met now.
    pub(crate) fn find(&self, id: &[u8], now: u64) -> Known {
        let key = self.hasher.hash_one(id);
        let mut known = self.lock();
        match known.get_mut(&key) {
            None => Known::Never,
            Some(entry) if now.saturating_sub(entry.met) > self.duration => {
                known.pop(&key);
                Known::Expired
            }
            Some(entry) => {
                entry.met = now;
                Known::Of(entry.target)
            }
        }
    }

    /// `target` has answered with this id.
    pub(crate) fn learn(&self, id: &[u8], target: u64, now: u64) {
        let key = self.hasher.hash_one(id);
        let mut known = self.lock();
        known.put(key, Entry { target, met: now });
        if known.len() > MOST.get() {
            known.pop_lru();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<u64, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn ids() -> Ids {
        Ids {
            duration: 60,
            ..Ids::new(None)
        }
    }

    #[test]
    fn an_id_is_good_until_nobody_has_met_it_for_long() {
        let ids = ids();
        assert_eq!(ids.find(b"a", 0), Known::Never);
        ids.learn(b"a", 7, 0);
        for now in [60, 120, 180] {
            assert_eq!(ids.find(b"a", now), Known::Of(7));
        }
        assert_eq!(ids.find(b"a", 241), Known::Expired);
        assert_eq!(ids.find(b"a", 241), Known::Never);
        ids.learn(b"a", 8, 241);
        assert_eq!(ids.find(b"a", 241), Known::Of(8));
    }

    #[test]
    fn whoever_was_quiet_longest_is_forgotten_first() {
        let ids = ids();
        let name = |number: usize| number.to_be_bytes();
        for number in 0..MOST.get() {
            ids.learn(&name(number), number as u64, 0);
        }
        assert_eq!(ids.find(&name(0), 0), Known::Of(0));
        ids.learn(b"one more", 1, 0);
        assert_eq!(ids.find(&name(0), 0), Known::Of(0));
        assert_eq!(ids.find(&name(1), 0), Known::Never);
        assert_eq!(ids.lock().len(), MOST.get());
    }

    proptest! {
        #[test]
        fn the_last_who_answered_has_the_session(
            told in prop::collection::vec((0..20u8, 0..5u64), 0..100),
        ) {
            let ids = ids();
            let mut last = std::collections::HashMap::new();
            for (id, target) in told {
                ids.learn(&[id], target, 0);
                last.insert(id, target);
            }
            for (id, target) in last {
                prop_assert_eq!(ids.find(&[id], 0), Known::Of(target));
            }
            prop_assert_eq!(ids.find(&[99], Duration::from_secs(1).as_secs()), Known::Never);
        }
    }
}
