//! What a target has to do: requests that it has not answered to their end, and
//! upgraded connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one target.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: AtomicU64,
    /// Relayed and in the kernel, as counted last, with those opened since.
    upgraded: AtomicU64,
}

/// A request that a target works on; over when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Load>);

impl Load {
    /// Requests and upgraded connections together.
    pub(crate) fn outstanding(&self) -> u64 {
        let upgraded = self.upgraded.load(Ordering::Relaxed);
        upgraded.saturating_add(self.requests.load(Ordering::Relaxed))
    }

    /// A request has been given to it.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// A connection has been upgraded.
    pub(crate) fn upgraded(&self) {
        self.upgraded.fetch_add(1, Ordering::Relaxed);
    }

    /// Upgraded connections have been counted.
    pub(crate) fn set_upgraded(&self, count: u64) {
        self.upgraded.store(count, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_not_over() {
        let load = Arc::new(Load::default());
        let (one, two) = (load.begin(), load.begin());
        load.set_upgraded(3);
        load.upgraded();
        assert_eq!(load.outstanding(), 6);
        drop((one, two));
        assert_eq!(load.outstanding(), 4);
    }
}
