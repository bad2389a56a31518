//! What a client does with its streams: how many it has, and how many requests it
//! took back before they were answered.
//!
//! A request that is taken back costs the client some bytes and the target all of its
//! work (CVE-2023-44487). Browsers do it too, but not with most of what they ask for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::room::{Full, StreamPlace, Streams};

/// Below this nobody is suspected: a page that is left has that many requests.
const ABANDONED: u64 = 100;

/// One connection's.
#[derive(Debug)]
pub(super) struct Conduct {
    state: Mutex<State>,
    flood: Notify,
}

#[derive(Debug)]
struct State {
    open: usize,
    /// When the last stream ended.
    rested: Instant,
    begun: u64,
    abandoned: u64,
}

impl Conduct {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            open: 0,
            rested: Instant::now(),
            begun: 0,
            abandoned: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            flood: Notify::new(),
        })
    }

    /// A stream begins, if there is room for one more; it ends when what is returned is
    /// dropped.
    pub(super) fn begin(self: &Arc<Self>, streams: &Streams) -> Result<Open, Full> {
        let mut state = self.lock();
        let place = match state.open.checked_sub(1) {
            None => None,
            Some(held) => Some(streams.enter(held)?),
        };
        state.open += 1;
        state.begun += 1;
        Ok(Open {
            conduct: self.clone(),
            _place: place,
        })
    }

    /// Since when there has been no stream.
    pub(super) fn rested(&self) -> Option<Instant> {
        let state = self.lock();
        (state.open == 0).then_some(state.rested)
    }

    /// Waits until most requests, and many, have been taken back.
    pub(super) async fn flooded(&self) {
        self.flood.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that has not ended.
#[derive(Debug)]
pub(super) struct Open {
    conduct: Arc<Conduct>,
    /// `None`: it has its connection's.
    _place: Option<StreamPlace>,
}

impl Open {
    /// The client took its request back.
    pub(super) fn abandoned(&self) {
        let mut state = self.conduct.lock();
        state.abandoned += 1;
        if state.abandoned >= ABANDONED && state.abandoned * 2 > state.begun {
            self.conduct.flood.notify_one();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.conduct.lock();
        state.open -= 1;
        state.rested = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::room::Room;

    fn begin(conduct: &Arc<Conduct>) -> Open {
        let no_limit = Streams::new(&Room::new(0));
        conduct.begin(&no_limit).expect("room")
    }

    fn is_flood(answered: u64, abandoned: u64) -> bool {
        let conduct = Conduct::new();
        for _ in 0..answered {
            drop(begin(&conduct));
        }
        for _ in 0..abandoned {
            begin(&conduct).abandoned();
        }
        conduct.flooded().now_or_never().is_some()
    }

    #[test]
    fn most_and_many_are_a_flood() {
        assert!(!is_flood(0, ABANDONED - 1));
        assert!(is_flood(0, ABANDONED));
        assert!(!is_flood(ABANDONED, ABANDONED));
        assert!(is_flood(ABANDONED, ABANDONED + 1));
    }

    /// Nothing is done for those, so they must not outweigh what is taken back.
    #[test]
    fn refused_streams_hide_no_flood() {
        let (conduct, room) = (Conduct::new(), Room::new(1));
        let _only = room.enter().expect("room");
        let streams = Streams::new(&room);
        for _ in 0..ABANDONED {
            let open = conduct.begin(&streams).expect("its connection's place");
            for _ in 0..2 {
                assert!(conduct.begin(&streams).is_err());
            }
            open.abandoned();
        }
        assert!(conduct.flooded().now_or_never().is_some());
    }

    #[test]
    fn rests_when_the_last_stream_has_ended() {
        let conduct = Conduct::new();
        let (one, two) = (begin(&conduct), begin(&conduct));
        drop(one);
        assert_eq!(conduct.rested(), None);
        drop(two);
        assert!(conduct.rested().is_some());
    }
}
