//! Who waits for room at the targets of a group (`max_connections_per_target`): a bounded
//! number, each for a bounded time, in the order in which they came.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// That wait at a time: a burst, not an outage.
const MOST: usize = 1024;

/// The queue of one group.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Requests and connections that each target may have; 0: no limit.
    limit: u64,
    waiting: AtomicUsize,
    anyone: Waiting,
    ended: [AtomicU64; 3],
}

/// Those who wait for the same thing.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    count: AtomicUsize,
    call: Notify,
}

/// How waiting ended; the label of `queued_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There was room.
    Admitted,
    /// There was none in time.
    TimedOut,
    /// Too many waited already.
    Refused,
}

impl Ended {
    pub(crate) const ALL: [Self; 3] = [Self::Admitted, Self::TimedOut, Self::Refused];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
        }
    }
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl Queue {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: limit.into(),
            waiting: AtomicUsize::new(0),
            anyone: Waiting::default(),
            ended: Default::default(),
        }
    }

    /// What each target may have; `None`: any number.
    pub(super) fn limit(&self) -> Option<u64> {
        (self.limit > 0).then_some(self.limit)
    }

    /// A place for one more; `None` if too many wait.
    pub(crate) fn enter(&self) -> Option<Place<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        (before < MOST).then_some(place)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Those for whom any target will do.
    pub(crate) fn anyone(&self) -> &Waiting {
        &self.anyone
    }

    /// Counts how waiting ended.
    pub(crate) fn ended(&self, how: Ended) {
        if let Some(count) = self.ended.get(how as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often waiting has ended so.
    pub(crate) fn count(&self, how: Ended) -> u64 {
        let count = self.ended.get(how as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Waiting {
    /// Joins those who wait.
    pub(crate) fn join(&self) -> Place<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        Place(&self.count)
    }

    /// The next call for one of them, of those made from now on.
    pub(crate) fn called(&self) -> Notified<'_> {
        self.call.notified()
    }

    /// Calls who has waited longest; false if nobody waits.
    pub(super) fn call(&self) -> bool {
        let any = self.count.load(Ordering::SeqCst) > 0;
        if any {
            self.call.notify_one();
        }
        any
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
