//! Connections to targets that are kept between requests.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::body::Sender;
use super::h2c;
use super::leg::Leg;

/// Below the keep-alive of common servers (Node's 5 s is the shortest), so that
/// a kept connection is rarely closed just as it is used again.
const IDLE: Duration = Duration::from_secs(4);
/// A burst's connections are kept; more would only occupy the target.
const PER_TARGET: usize = 256;

/// Whom a connection leads to: a target of a group, which has its own idea of whom to
/// believe.
pub(super) type To = (u64, SocketAddr);

/// The connections to all targets.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(super) http1: Arc<Idle>,
    pub(super) h2c: h2c::Shared,
}

impl Pools {
    /// With as many of HTTP/1.1 as there may be connections of clients; 0 is no limit.
    pub(crate) fn new(most: u32) -> Self {
        let http1 = Idle {
            state: Mutex::default(),
            most: usize::try_from(most).unwrap_or(usize::MAX),
            all: Arc::new(()),
        };
        Self {
            http1: Arc::new(http1),
            h2c: h2c::Shared::default(),
        }
    }
}

/// Those that nobody uses just now.
pub(super) struct Idle {
    state: Mutex<State>,
    /// With those in use, and with tunnels.
    most: usize,
    /// Shared with each that is open, in use or not.
    all: Arc<()>,
}

/// What a connection is counted by.
pub(super) type Counted = Arc<()>;

#[derive(Default)]
struct State {
    /// With the time since when; the last to come back is the first to go.
    legs: HashMap<To, Vec<(Instant, Leg)>>,
    /// Somebody closes what is kept for too long.
    watched: bool,
}

impl Idle {
    /// The connection used last. Whether the target has closed it is seen by who uses it,
    /// before it takes the request.
    pub(super) fn take(&self, to: To) -> Option<Leg> {
        let (since, leg) = self.lock().legs.get_mut(&to)?.pop()?;
        // Those below it are older.
        (since.elapsed() < IDLE).then_some(leg)
    }

    /// One more connection to a target is to be opened, beside so many tunnels. In use are
    /// no more than clients have places; with one that is idle for each of them there could
    /// be too few descriptors, so one has to go.
    pub(super) fn make_way(&self, tunnels: usize) -> Counted {
        let open = Arc::strong_count(&self.all) - 1;
        if self.most != 0 && open + tunnels >= self.most {
            drop(self.oldest());
        }
        self.all.clone()
    }

    fn oldest(&self) -> Option<Leg> {
        let mut state = self.lock();
        let all = state.legs.values_mut().filter(|legs| !legs.is_empty());
        let legs = all.min_by_key(|legs| legs.first().map(|(since, _)| *since))?;
        Some(legs.remove(0).1)
    }

    fn put(self: &Arc<Self>, to: To, leg: Leg) {
        let mut state = self.lock();
        let legs = state.legs.entry(to).or_default();
        if legs.len() < PER_TARGET {
            legs.push((Instant::now(), leg));
        }
        if !std::mem::replace(&mut state.watched, true) {
            tokio::spawn(self.clone().watch());
        }
    }

    /// Closes what has been kept for too long, until nothing is left.
    async fn watch(self: Arc<Self>) {
        loop {
            sleep(IDLE / 4).await;
            let mut over = Vec::new();
            let mut state = self.lock();
            state.legs.retain(|_, legs| {
                let fresh = legs.partition_point(|(since, _)| since.elapsed() >= IDLE);
                over.extend(legs.drain(..fresh));
                !legs.is_empty()
            });
            state.watched = !state.legs.is_empty();
            let watched = state.watched;
            drop(state);
            for (_, leg) in over {
                tokio::spawn(leg.close());
            }
            if !watched {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let legs = |all: &Vec<_>| all.len();
        let count: usize = self.lock().legs.values().map(legs).sum();
        write!(f, "Idle({count})")
    }
}

/// A connection in use, and where it goes afterwards.
pub(super) struct Lent {
    pub(super) leg: Leg,
    /// `None`: nobody else may use it.
    pub(super) home: Option<(Arc<Idle>, To)>,
}

impl Lent {
    /// The answer is whole: keeps the connection, if it can be used again.
    pub(super) fn give_back(mut self, cx: &mut Context<'_>) {
        if let Some((idle, to)) = self.home
            && self.leg.is_free(cx)
        {
            idle.put(to, self.leg);
        }
    }

    /// Goes on with a request that its answer has overtaken, and need not wait for the
    /// answer's reader. Nor for ever for a target that takes no more of it.
    pub(super) fn go_on(mut self, sender: Sender, idle_timeout: Duration) {
        tokio::spawn(async move {
            let free = tokio::select! {
                free = self.leg.complete() => free,
                () = sender.stands_still(idle_timeout) => false,
            };
            if free && let Some((idle, to)) = self.home {
                idle.put(to, self.leg);
            }
        });
    }
}
