//! How many connections of clients there may be at a time: in all, at a listener, from
//! a source. Those that the kernel carries have no socket here and are not counted; each
//! further stream of HTTP/2 is, as it may need a connection to a target of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::door::sharing;

/// Why there is no room; the key of the limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// `limits.max_connections`.
    Daemon,
    /// `listener.max_connections`.
    Listener,
    /// `limits.max_connections_per_source`.
    Source,
    /// `limits.tls_handshakes_per_source`.
    Handshakes,
}

impl Full {
    /// The label of `rejected_total`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Daemon => "max_connections",
            Self::Listener => "listener_max_connections",
            Self::Source => "max_connections_per_source",
            Self::Handshakes => "tls_handshakes_per_source",
        }
    }
}

/// Room for so many at a time.
#[derive(Debug)]
pub(crate) struct Room {
    /// 0: no limit.
    most: u32,
    taken: AtomicU32,
}

/// A place in a room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Room>);

impl Room {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: AtomicU32::new(0),
        })
    }

    /// `None` if all places are taken.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let place = Place(self.clone());
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Dropping the place gives back what was one too many.
        (self.most == 0 || before < self.most).then_some(place)
    }

    /// Places that nobody has; as many as there can be where there is no limit.
    fn free(&self) -> u32 {
        match self.most {
            0 => u32::MAX,
            most => most.saturating_sub(self.taken.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for so many at a time of each source.
#[derive(Debug)]
pub(crate) struct Sources {
    /// 0: no limit, and nothing is counted.
    most: u32,
    /// Only those that have a place.
    taken: Mutex<HashMap<IpAddr, u32>>,
}

/// A place of a source, given back when dropped.
#[derive(Debug)]
pub(crate) struct SourcePlace(Option<(Arc<Sources>, IpAddr)>);

impl Sources {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// `None` if all places of this source are taken.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr) -> Option<SourcePlace> {
        if self.most == 0 {
            return Some(SourcePlace(None));
        }
        let source = sharing(source.to_canonical());
        let mut taken = self.lock();
        let count = taken.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(SourcePlace(Some((self.clone(), source))))
    }

    fn leave(&self, source: IpAddr) {
        let mut taken = self.lock();
        if let Some(count) = taken.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&source);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Its numbers are whole after each step.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        if let Some((sources, source)) = self.0.take() {
            sources.leave(source);
        }
    }
}

/// What a client's connection holds as long as it has a socket here.
#[derive(Debug)]
pub(crate) struct Admitted {
    _daemon: Place,
    _listener: Place,
    source: Option<SourcePlace>,
}

impl Admitted {
    /// Takes a place in the daemon and at the listener.
    pub(crate) fn new(daemon: &Arc<Room>, listener: &Arc<Room>) -> Result<Self, Full> {
        Ok(Self {
            _daemon: daemon.enter().ok_or(Full::Daemon)?,
            _listener: listener.enter().ok_or(Full::Listener)?,
            source: None,
        })
    }

    /// Takes one of its source's places too, once it is known who that is.
    pub(crate) fn of(&mut self, source: IpAddr, sources: &Arc<Sources>) -> Result<(), Full> {
        self.source = Some(sources.enter(source).ok_or(Full::Source)?);
        Ok(())
    }
}

/// Room for streams of HTTP/2 beyond the first of each connection, which is covered by its
/// connection's place. They are in the daemon's room too, and never take more than half of
/// it: who comes with a connection finds the rest.
#[derive(Debug)]
pub(crate) struct Streams {
    all: Arc<Room>,
    daemon: Arc<Room>,
}

/// A stream's places, given back when dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    _stream: Place,
    _daemon: Place,
}

impl Streams {
    pub(crate) fn new(daemon: &Arc<Room>) -> Self {
        Self {
            all: Room::new(daemon.most.div_ceil(2)),
            daemon: daemon.clone(),
        }
    }

    /// A place for a stream of a connection that has so many already. None has more than
    /// it leaves to the others, so that a few that push do not shut them out.
    pub(crate) fn enter(&self, held: usize) -> Result<StreamPlace, Full> {
        let fair = u32::try_from(held).is_ok_and(|held| held < self.all.free());
        let stream = self.all.enter().filter(|_| fair).ok_or(Full::Daemon)?;
        Ok(StreamPlace {
            _stream: stream,
            _daemon: self.daemon.enter().ok_or(Full::Daemon)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as a connection can get.
    fn filled(streams: &Streams) -> Vec<StreamPlace> {
        let mut held = Vec::new();
        while let Ok(place) = streams.enter(held.len()) {
            held.push(place);
        }
        held
    }

    #[test]
    fn streams_leave_room_to_each_other_and_to_connections() {
        let daemon = Room::new(120);
        let streams = Streams::new(&daemon);
        let all = [(); 4].map(|()| filled(&streams));
        assert_eq!(all.each_ref().map(Vec::len), [30, 15, 8, 4]);
        assert!(streams.enter(0).is_ok());
        assert_eq!(daemon.free(), 120 - 57);
        drop(all);
        assert_eq!((daemon.free(), streams.all.free()), (120, 60));
    }

    #[test]
    fn streams_find_no_room_where_connections_have_taken_all() {
        let daemon = Room::new(2);
        let streams = Streams::new(&daemon);
        let _first = daemon.enter().expect("room");
        let second = daemon.enter().expect("room");
        for _ in 0..3 {
            assert_eq!(streams.enter(0).map(drop), Err(Full::Daemon));
        }
        drop(second);
        assert!(streams.enter(0).is_ok());
        // A place for one connection is none for a stream; no limit is none for them too.
        let one = Room::new(1);
        let _only = one.enter().expect("room");
        assert!(Streams::new(&one).enter(0).is_err());
        assert!(Streams::new(&Room::new(0)).enter(1_000_000).is_ok());
    }

    #[test]
    fn a_room_is_full_until_somebody_leaves() {
        let room = Room::new(2);
        let first = room.enter().expect("room");
        let _second = room.enter().expect("room");
        for _ in 0..3 {
            assert!(room.enter().is_none());
        }
        drop(first);
        let _third = room.enter().expect("room again");
        assert!(room.enter().is_none());
    }

    #[test]
    fn zero_is_no_limit() {
        let (room, sources) = (Room::new(0), Sources::new(0));
        let all: Vec<_> = (0..1000).map(|_| room.enter()).collect();
        assert!(all.iter().all(Option::is_some));
        let source = IpAddr::from([10, 0, 0, 1]);
        let all: Vec<_> = (0..1000).map(|_| sources.enter(source)).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(sources.lock().is_empty());
    }

    #[test]
    fn each_source_has_its_own_room_and_leaves_nothing_behind() {
        let sources = Sources::new(1);
        let mut held = Vec::new();
        for (source, has_room) in [
            ("10.0.0.1", true),
            ("10.0.0.2", true),
            ("::ffff:10.0.0.1", false),
            ("fd00:0:0:1::1", true),
            ("fd00:0:0:1::2", false),
            ("fd00:0:0:2::1", true),
        ] {
            let place = sources.enter(source.parse().expect("an address"));
            assert_eq!(place.is_some(), has_room, "{source}");
            held.push(place);
        }
        drop(held);
        assert!(sources.lock().is_empty());
    }

    #[test]
    fn who_is_refused_by_one_holds_no_place_of_another() {
        let (daemon, listener, sources) = (Room::new(2), Room::new(1), Sources::new(1));
        let source = IpAddr::from([10, 0, 0, 1]);
        let mut first = Admitted::new(&daemon, &listener).expect("room");
        assert_eq!(first.of(source, &sources), Ok(()));
        for _ in 0..3 {
            let refused = Admitted::new(&daemon, &listener).map(drop);
            assert_eq!(refused, Err(Full::Listener));
        }
        let mut other = Admitted::new(&daemon, &Room::new(0)).expect("room");
        assert_eq!(other.of(source, &sources), Err(Full::Source));
        let refused = Admitted::new(&daemon, &listener).map(drop);
        assert_eq!(refused, Err(Full::Daemon));
        drop((first, other));
        let mut again = Admitted::new(&daemon, &listener).expect("room");
        assert_eq!(again.of(source, &sources), Ok(()));
    }
}
