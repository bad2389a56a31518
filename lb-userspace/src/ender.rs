//! Ending connections from here, whatever carries them: the one place that paces.
//!
//! Thousands of clients that lose their connection in one second come back in one
//! second. So many are ended spread over a window, a few at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connections::Connections;
use crate::dataplane::{Dataplane, EndCause, Place};
use crate::selection::Selection;

/// Flows that are looked up at a time.
const PAGE: usize = 256;

/// Ends connections; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ender {
    dataplane: Dataplane,
    connections: Arc<Connections>,
}

/// Connections that are to end.
#[derive(Debug)]
pub(crate) struct Ending {
    ender: Ender,
    selection: Selection,
    /// How many there were when they were counted.
    pub(crate) count: u64,
    /// Connections with this id or a higher one were made later and go on.
    newer: u64,
}

impl Ender {
    pub(crate) fn new(dataplane: Dataplane, connections: Arc<Connections>) -> Self {
        Self {
            dataplane,
            connections,
        }
    }

    /// Ends one connection now; false if there is none with this id.
    pub(crate) async fn end_one(&self, id: u64, cause: EndCause) -> io::Result<bool> {
        let relayed = self.connections.relayed();
        if relayed.iter().any(|one| one.id == id && one.end(cause)) {
            return Ok(true);
        }
        // Not relayed, or just handed off and in the table by now.
        let dataplane = self.dataplane.clone();
        let find = move || dataplane.page(Place::default(), 1, |flow| flow.id == id);
        let (found, _) = blocking(find).await?;
        for flow in &found {
            self.dataplane.end(flow.handle, cause);
        }
        Ok(!found.is_empty())
    }

    /// Ends all that are selected, spread evenly over `window`; returns how many were ended.
    pub(crate) async fn end_all(
        &self,
        selection: Selection,
        cause: EndCause,
        window: Duration,
    ) -> io::Result<u64> {
        self.select(selection).await?.run(cause, window).await
    }

    /// Counts those that are to end, and ends none yet.
    pub(crate) async fn select(&self, selection: Selection) -> io::Result<Ending> {
        let newer = self.dataplane.next_id();
        let relayed = self.connections.relayed();
        let relayed = relayed.iter().filter(|one| selection.has_relayed(one));
        let relayed = relayed.count() as u64;
        let flows = match selection.has_path(self.dataplane.path()) {
            true => {
                let (dataplane, wanted) = (self.dataplane.clone(), selection.clone());
                blocking(move || dataplane.count(|flow| wanted.has_flow(flow))).await?
            }
            false => 0,
        };
        Ok(Ending {
            ender: self.clone(),
            selection,
            count: relayed + flows,
            newer,
        })
    }
}

impl Ending {
    /// Ends them, spread evenly over `window`; dropped before its end it stops.
    /// Returns how many were ended; others have ended by themselves.
    pub(crate) async fn run(self, cause: EndCause, window: Duration) -> io::Result<u64> {
        let mut pace = Pace::new(self.count, window);
        // Relayed ones first: one that is handed off meanwhile is in the table then.
        for one in self.ender.connections.relayed() {
            if one.id < self.newer && self.selection.has_relayed(&one) {
                pace.turn().await;
                pace.done += u64::from(one.end(cause));
            }
        }
        if !self.selection.has_path(self.ender.dataplane.path()) {
            return Ok(pace.done);
        }
        let mut place = Some(Place::default());
        while let Some(from) = place {
            let (dataplane, wanted) = (self.ender.dataplane.clone(), self.selection.clone());
            let newer = self.newer;
            let read =
                move || dataplane.page(from, PAGE, |flow| flow.id < newer && wanted.has_flow(flow));
            let (flows, next) = blocking(read).await?;
            for flow in flows {
                pace.turn().await;
                self.ender.dataplane.end(flow.handle, cause);
                pace.done += 1;
            }
            place = next;
        }
        Ok(pace.done)
    }
}

/// When the next connection may end.
struct Pace {
    start: Instant,
    step: Duration,
    done: u64,
}

impl Pace {
    fn new(count: u64, window: Duration) -> Self {
        // The last one ends with the window, not a step before it.
        let steps = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        Self {
            start: Instant::now(),
            step: window.checked_div(steps).unwrap_or_default(),
            done: 0,
        }
    }

    /// Waits until as many may have ended as have, and one more.
    async fn turn(&self) {
        let done = u32::try_from(self.done).unwrap_or(u32::MAX);
        tokio::time::sleep_until(self.start + self.step.saturating_mul(done)).await;
    }
}

/// Walks over the table are too long for a worker of the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
