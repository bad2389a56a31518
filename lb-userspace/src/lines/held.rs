//! How many bytes of lines wait to be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a line takes beside its text: its place in the queue, its allocation.
const OVERHEAD: usize = 64;

/// Counts them, up to a bound; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Held {
    bytes: Arc<AtomicUsize>,
    most: usize,
}

impl Held {
    pub(super) fn up_to(most: usize) -> Self {
        Self {
            bytes: Arc::default(),
            most,
        }
    }

    /// Whether there is room for a line, which is then taken.
    pub(super) fn take(&self, line: &String) -> bool {
        let before = self.bytes.fetch_add(cost(line), Ordering::Relaxed);
        let fits = before.saturating_add(cost(line)) <= self.most;
        if !fits {
            self.give_up(line);
        }
        fits
    }

    /// The line is gone.
    pub(super) fn give_up(&self, line: &String) {
        self.bytes.fetch_sub(cost(line), Ordering::Relaxed);
    }
}

/// The same as long as nobody writes to the line.
fn cost(line: &String) -> usize {
    line.capacity() + OVERHEAD
}
