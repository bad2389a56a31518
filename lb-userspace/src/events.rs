//! What happens in the daemon, for whoever listens at that moment
//! (`GET /v1/events`). Nothing waits for a listener; one that is slow misses some.

use serde_json::Value;
use tokio::sync::broadcast;

/// A burst of changes fits, such as all targets of a group at once.
const BACKLOG: usize = 1024;

/// One thing that happened.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// What it is about: a fixed word.
    pub(crate) kind: &'static str,
    pub(crate) data: Value,
}

/// Where events are told and heard; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Events {
    /// Tells everybody who listens.
    pub(crate) fn tell(&self, kind: &'static str, data: Value) {
        // Nobody listening is the normal case.
        let _ = self.0.send(Event { kind, data });
    }

    /// Everything told from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
