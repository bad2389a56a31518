//! What a target has to do: requests that it has not answered to their end, and
//! connections that it has, relayed and in the kernel; and whether there is room for more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::queue::{Queue, Waiting};

/// Counters of one target. What they say together is never too little: what moves from
/// one to another is counted twice for a moment.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Requests and relayed connections.
    held: AtomicU64,
    /// Connections that went into the kernel since `flows` was counted.
    fresh: AtomicU64,
    /// Connections in the kernel, as counted last.
    flows: AtomicU64,
    /// Where those wait for whom there is no room; `None`: there always is.
    queue: OnceLock<Arc<Queue>>,
    /// Those of them that wait for this target and no other.
    own: Waiting,
}

/// A request or a relayed connection of a target; over when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Load>);

impl Load {
    /// Requests and connections together.
    pub(crate) fn outstanding(&self) -> u64 {
        let held = self.held.load(Ordering::SeqCst);
        self.in_kernel().saturating_add(held)
    }

    /// From now on there is room for as many as the queue's group allows.
    pub(super) fn limit(&self, queue: &Arc<Queue>) {
        // Once a target is in a group it stays there.
        let _ = self.queue.set(queue.clone());
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_beside(self.held.load(Ordering::SeqCst))
    }

    /// Whether there is, with so many requests and relayed connections.
    fn has_room_beside(&self, held: u64) -> bool {
        let limit = self.queue.get().and_then(|queue| queue.limit());
        limit.is_none_or(|limit| self.in_kernel().saturating_add(held) < limit)
    }

    /// A request or a connection is given to it, if there is room.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        // Not one more and back: that would call somebody, and be it ourselves.
        self.held
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                self.has_room_beside(held).then(|| held + 1)
            })
            .ok()?;
        Some(InFlight(self.clone()))
    }

    fn in_kernel(&self) -> u64 {
        self.flows.load(Ordering::Relaxed) + self.fresh.load(Ordering::Relaxed)
    }

    /// Those who wait for this target alone.
    pub(crate) fn own(&self) -> &Waiting {
        &self.own
    }

    /// Begins to count flows; the answer is for [`Self::counted`].
    pub(crate) fn counting(&self) -> u64 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Flows have been counted, all those that were `fresh` before among them.
    pub(crate) fn counted(&self, flows: u64, fresh: u64) {
        let before = self.flows.swap(flows, Ordering::Relaxed);
        self.fresh.fetch_sub(fresh, Ordering::Relaxed);
        for _ in flows..before {
            self.freed();
        }
    }

    /// There is room for one more: who waits for this target goes first.
    fn freed(&self) {
        if let Some(queue) = self.queue.get()
            && !self.own.call()
        {
            queue.anyone().call();
        }
    }
}

impl InFlight {
    /// Of a target that nobody knows.
    #[cfg(test)]
    pub(crate) fn lone() -> Self {
        Arc::<Load>::default().begin().expect("no limit")
    }

    /// The kernel has the connection.
    pub(crate) fn handed_off(self) {
        self.0.fresh.fetch_add(1, Ordering::Relaxed);
        // Dropping it calls somebody for whom there is no room: who looks first.
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // In order with the look at who waits: they look for room after they have joined.
        self.0.held.fetch_sub(1, Ordering::SeqCst);
        self.0.freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_not_over() {
        let load = Arc::new(Load::default());
        let (one, two) = (load.begin(), load.begin().expect("room"));
        two.handed_off();
        assert_eq!(load.outstanding(), 2);
        // Counted while one more is handed off: never too little.
        let fresh = load.counting();
        load.begin().expect("room").handed_off();
        load.counted(1, fresh);
        assert_eq!(load.outstanding(), 3);
        load.counted(2, load.counting());
        assert_eq!(load.outstanding(), 3);
        drop(one);
        load.counted(0, load.counting());
        assert_eq!(load.outstanding(), 0);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let load = Arc::new(Load::default());
        load.limit(&Arc::new(Queue::new(2)));
        let (one, two) = (load.begin(), load.begin());
        assert!(one.is_some() && two.is_some() && !load.has_room());
        assert!(load.begin().is_none());
        assert_eq!(load.outstanding(), 2);
        two.expect("room").handed_off();
        assert!(load.begin().is_none());
        drop(one);
        assert!(load.has_room() && load.begin().is_some());
    }

    #[test]
    fn many_at_once_never_exceed_it() {
        let load = Arc::new(Load::default());
        load.limit(&Arc::new(Queue::new(3)));
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(in_flight) = load.begin() else {
                            continue;
                        };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(in_flight);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(load.outstanding(), 0);
    }
}
