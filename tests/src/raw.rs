//! Checked streams: two independent streams of pseudo-random bytes over one
//! connection, from the 101 on, every byte compared with what was sent.
//!
//! An echo would wait for itself and hide races; these two know nothing of each
//! other. Both ends are in one process, so that what was sent and what arrived
//! can be compared without asking over the connection under test.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::client::Client;
use crate::pattern::Pattern;
use crate::until::{until, when};

/// One direction of one connection.
#[derive(Debug, Default)]
pub struct Lane {
    pace: OnceLock<Pace>,
    sent: AtomicU64,
    received: AtomicU64,
    ended: AtomicBool,
    slowest_ms: AtomicU64,
    longest_gap_ms: AtomicU64,
    last: Mutex<Option<Instant>>,
    fault: OnceLock<String>,
    /// Where each piece on its way ends, and when it was sent.
    underway: Mutex<VecDeque<(u64, Instant)>>,
}

/// Both directions of one connection.
#[derive(Debug, Default)]
pub struct Pair {
    /// Client to target.
    up: Lane,
    /// Target to client.
    down: Lane,
}

/// All connections of a test, by number.
#[derive(Debug, Default)]
pub struct Streams {
    pairs: Mutex<Vec<Arc<Pair>>>,
    stop: AtomicBool,
    bulk: AtomicU64,
    go_on: watch::Sender<bool>,
}

/// How a direction talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The largest piece written at once, in bytes.
    longest: u64,
    /// The middle of the random gaps between pieces.
    gap: Duration,
}

/// Words now and then; pieces below and above a segment.
const TALK: Pace = Pace {
    longest: 2_000,
    gap: Duration::from_millis(200),
};
/// Pieces of more than a window at once, one behind the other.
const BULK: Pace = Pace {
    longest: 200_000,
    gap: Duration::ZERO,
};

/// Without a pause, as fast as the other end takes it.
pub const FLOOD: Pace = Pace {
    longest: 64 * 1024,
    gap: Duration::ZERO,
};
/// Not at all; the gap is how often the sender asks whether it may end.
pub const SILENCE: Pace = Pace {
    longest: 0,
    gap: Duration::from_millis(20),
};

/// What came of it all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Connections.
    pub connections: usize,
    /// Bytes checked, both directions.
    pub bytes: u64,
    /// Bytes of the direction that received least.
    pub least: u64,
    /// The longest any byte was on its way.
    pub slowest: Duration,
    /// The longest that a receiver of a flood had nothing to read.
    pub stall: Duration,
}

impl Streams {
    /// Opens connection `id` and keeps it talking in the background; answers the
    /// client's address.
    pub async fn open(self: &Arc<Self>, client: &Client<'_>, id: usize) -> Result<SocketAddr> {
        let pair = self.pair(id);
        let (stream, rest) = client.raw(&format!("/raw?id={id}"), None).await?;
        let address = stream.local_addr()?;
        let (read, write) = stream.into_split();
        let streams = Arc::clone(self);
        let seeds = seeds(id);
        let reader = Arc::clone(&pair);
        tokio::spawn(async move { receive(read, rest, seeds.1, &reader.down).await });
        tokio::spawn(async move {
            let stop = || streams.stop.load(Relaxed);
            streams.send(write, seeds.0, &pair.up, stop).await;
        });
        Ok(address)
    }

    /// The same with directions, up and down, that talk at these paces.
    pub async fn open_at(
        self: &Arc<Self>,
        client: &Client<'_>,
        id: usize,
        paces: [Pace; 2],
    ) -> Result<SocketAddr> {
        for (lane, pace) in self.pair(id).lanes().iter().zip(paces) {
            lane.pace.get_or_init(|| pace);
        }
        self.open(client, id).await
    }

    /// The target's half of connection `id`.
    pub(crate) async fn serve(&self, id: usize, stream: TcpStream, rest: Vec<u8>) -> Result<()> {
        let pair = self.pair(id);
        let (read, write) = stream.into_split();
        let seeds = seeds(id);
        let done = AtomicBool::new(false);
        tokio::join!(
            async {
                receive(read, rest, seeds.0, &pair.up).await;
                done.store(true, Relaxed);
            },
            self.send(write, seeds.1, &pair.down, || done.load(Relaxed)),
        );
        Ok(())
    }

    /// Each direction of connections opened from now on sends this many bytes without
    /// a pause and then ends; no more than half of them before [`Self::go_on`].
    pub fn bulk(&self, bytes: u64) {
        self.bulk.store(bytes, Relaxed);
    }

    /// Lets the second half of every bulk follow.
    pub fn go_on(&self) {
        self.go_on.send_replace(true);
    }

    /// Tells every client to finish; targets follow when they have read the end.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether every connection has ended in both directions.
    pub fn all_ended(&self) -> bool {
        self.all()
            .iter()
            .all(|pair| pair.lanes().iter().all(|lane| lane.ended.load(Relaxed)))
    }

    /// The first thing that went wrong, if any; else what was seen so far.
    pub fn check(&self) -> Result<Totals> {
        let mut totals = Totals {
            least: u64::MAX,
            ..Totals::default()
        };
        for (id, pair) in self.all().iter().enumerate() {
            totals.connections += 1;
            for (name, lane) in ["up", "down"].iter().zip(pair.lanes()) {
                lane.check()
                    .map_err(|fault| anyhow!("connection {id} {name}: {fault}"))?;
                let received = lane.received.load(Relaxed);
                totals.bytes += received;
                if lane.talks() {
                    totals.least = totals.least.min(received);
                }
                totals.slowest = totals.slowest.max(lane.slowest());
                if lane.pace.get() == Some(&FLOOD) {
                    totals.stall = totals.stall.max(lane.longest_gap());
                }
            }
        }
        Ok(totals)
    }

    /// The longest that a receiver of each connection had nothing to read.
    pub fn stalls(&self) -> Vec<Duration> {
        let all = self.all();
        let longest = |pair: &Arc<Pair>| {
            let lanes = pair.lanes().into_iter().filter(|lane| lane.talks());
            lanes.map(Lane::longest_gap).max()
        };
        all.iter().filter_map(longest).collect()
    }

    /// Forgets connections that have all ended; the next begin at number zero.
    pub fn begin_anew(&self) {
        self.pairs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.stop.store(false, Relaxed);
    }

    /// After the end: everything sent has arrived, and nothing else.
    pub fn check_complete(&self) -> Result<Totals> {
        for (id, pair) in self.all().iter().enumerate() {
            for (name, lane) in ["up", "down"].iter().zip(pair.lanes()) {
                let (sent, received) = (lane.sent.load(Relaxed), lane.received.load(Relaxed));
                ensure!(
                    sent == received,
                    "connection {id} {name}: {received} of {sent} bytes"
                );
            }
        }
        self.check()
    }

    /// Waits until every direction that talks has received more than `bytes` since
    /// `before` (an earlier answer of [`Self::progress`]), none of them wrong.
    pub async fn go_further(&self, before: &[u64], bytes: u64, takes: Duration) -> Result<()> {
        until("every stream goes on", takes, async || {
            self.check()?;
            let least = self.least_since(before);
            when(least > bytes, || {
                format!("one moved {least} bytes of {bytes}")
            })
        })
        .await
    }

    /// How much every direction of every connection has received at least,
    /// since `before` (an earlier answer of [`Self::progress`]).
    fn least_since(&self, before: &[u64]) -> u64 {
        self.progress()
            .iter()
            .zip(before)
            .map(|(now, before)| now - before)
            .min()
            .unwrap_or(0)
    }

    /// What each direction that talks has received so far.
    pub fn progress(&self) -> Vec<u64> {
        let all = self.all();
        let lanes = all.iter().flat_map(|pair| pair.lanes());
        lanes
            .filter(|lane| lane.talks())
            .map(|lane| lane.received.load(Relaxed))
            .collect()
    }

    /// Sends until it is told to stop, or until the bulk is sent.
    async fn send(
        &self,
        mut half: OwnedWriteHalf,
        seed: u64,
        lane: &Lane,
        stop: impl Fn() -> bool,
    ) {
        let bulk = self.bulk.load(Relaxed);
        let usual = if bulk == 0 { TALK } else { BULK };
        let mut talk = Talk::new(seed, lane.pace.get().copied().unwrap_or(usual));
        let mut left = if bulk == 0 { u64::MAX } else { bulk };
        while left > 0 && (bulk != 0 || !stop()) {
            let first_half = left.saturating_sub(bulk / 2);
            if first_half == 0 {
                // The sender is in `self`, so it is there.
                let _ = self.go_on.subscribe().wait_for(|go_on| *go_on).await;
            }
            let (piece, gap) = talk.next(if first_half == 0 { left } else { first_half });
            left -= piece.len() as u64;
            lane.sending(piece.len() as u64);
            if let Err(error) = half.write_all(&piece).await {
                return lane.fail(format!("sending failed: {error}"));
            }
            if !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
        }
        if let Err(error) = half.shutdown().await {
            lane.fail(format!("half-closing failed: {error}"));
        }
    }

    fn all(&self) -> Vec<Arc<Pair>> {
        self.pairs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn pair(&self, id: usize) -> Arc<Pair> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() <= id {
            pairs.resize_with(id + 1, Arc::default);
        }
        Arc::clone(&pairs[id])
    }
}

impl Pair {
    fn lanes(&self) -> [&Lane; 2] {
        [&self.up, &self.down]
    }
}

impl Lane {
    fn talks(&self) -> bool {
        self.pace.get() != Some(&SILENCE)
    }

    fn longest_gap(&self) -> Duration {
        Duration::from_millis(self.longest_gap_ms.load(Relaxed))
    }

    fn sending(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let end = self.sent.fetch_add(bytes, Relaxed) + bytes;
        self.underway().push_back((end, Instant::now()));
    }

    fn received(&self, bytes: u64) {
        let position = self.received.fetch_add(bytes, Relaxed) + bytes;
        let now = Instant::now();
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(now);
        if let Some(last) = last {
            let gap = u64::try_from((now - last).as_millis()).unwrap_or(u64::MAX);
            self.longest_gap_ms.fetch_max(gap, Relaxed);
        }
        let mut underway = self.underway();
        while let Some((_, sent)) = underway.pop_front_if(|(end, _)| *end <= position) {
            let took = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.slowest_ms.fetch_max(took, Relaxed);
        }
    }

    /// The longest any piece took, those still underway included.
    fn slowest(&self) -> Duration {
        let oldest = self
            .underway()
            .front()
            .map(|(_, sent)| sent.elapsed())
            .unwrap_or_default();
        oldest.max(Duration::from_millis(self.slowest_ms.load(Relaxed)))
    }

    fn underway(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Instant)>> {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, fault: String) {
        // The first fault explains the later ones.
        let _ = self.fault.set(fault);
    }

    fn check(&self) -> Result<(), String> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}

/// Different for every connection and direction.
fn seeds(id: usize) -> (u64, u64) {
    (id as u64 * 2 + 1, id as u64 * 2 + 2)
}

/// Pieces and gaps at random, the same for the same seed.
struct Talk {
    pattern: Pattern,
    chance: Pattern,
    pace: Pace,
}

impl Talk {
    fn new(seed: u64, pace: Pace) -> Self {
        Self {
            pattern: Pattern::new(seed),
            chance: Pattern::new(!seed),
            pace,
        }
    }

    /// The next piece, and the gap behind it.
    fn next(&mut self, most: u64) -> (Vec<u8>, Duration) {
        let length = match self.pace {
            SILENCE => 0,
            FLOOD => FLOOD.longest.min(most),
            pace => (1 + self.chance.below(pace.longest)).min(most),
        };
        let piece = self
            .pattern
            .bytes(usize::try_from(length).unwrap_or_default());
        let gap = self.chance.below(2 * self.pace.gap.as_millis() as u64);
        (piece, Duration::from_millis(gap))
    }
}

async fn receive(mut half: OwnedReadHalf, rest: Vec<u8>, seed: u64, lane: &Lane) {
    let mut pattern = Pattern::new(seed);
    let mut buffer = rest;
    loop {
        if let Err(offset) = pattern.check(&buffer) {
            let at = lane.received.load(Relaxed) + offset as u64;
            return lane.fail(format!("another byte than was sent, at {at}"));
        }
        lane.received(buffer.len() as u64);
        buffer.clear();
        match half.read_buf(&mut buffer).await {
            Ok(0) => return lane.ended.store(true, Relaxed),
            Ok(_) => {}
            Err(error) => return lane.fail(format!("receiving failed: {error}")),
        }
    }
}
