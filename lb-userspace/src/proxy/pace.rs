//! How long a client may take over what it is doing (HTTP only).
//!
//! ```text
//!          first byte            whole head             answer begins
//!   Idle ────────────▶ Head ───────────────▶ Waiting ───────────────▶ Body
//!    ▲                                                                 │
//!    └──────────────────────── answer written ─────────────────────────┘
//! ```
//! `Waiting` has no limit here: the target's is `response_timeout`. An answer may be
//! written before the request's body has ended; then `Body` lasts until that has.
//!
//! A head that begins in the same bytes as the request before it ends is not seen to begin: the
//! connection is `Idle` until a byte more of it comes. If none does, it is told from none when
//! that expires.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::framing::Framing;
use super::wire::Wire;

/// Who did not read, in the access log.
pub(super) const CLIENT_SLOW: &str = "client_slow";
/// Nothing moved, neither way.
pub(super) const IDLE: &str = "idle";

/// What the client is doing, and since when or until when without a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle(Instant),
    Head(Instant),
    Waiting,
    Body(Instant),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    framing: Framing,
    /// An answer is being written.
    answering: bool,
    /// A request's body has not ended.
    receiving: bool,
    /// hyper has begun to write and not yet flushed.
    unflushed: bool,
    /// hyper may have bytes of an answer of ours, or will.
    owed: bool,
    /// Why the answer was cut off, as the access log calls it.
    cut: Option<&'static str>,
}

/// Which limit has been passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// Nothing was being done; the connection is closed without a word.
    Idle,
    /// A request head is incomplete: 408.
    Head,
    /// A body stands still.
    Body,
}

/// The pace of one connection, shared by its stream and its requests.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Pace {
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Arc<Self> {
        let phase = Phase::Idle(Instant::now());
        let state = Mutex::new(State {
            phase,
            framing: Framing::default(),
            answering: false,
            receiving: false,
            unflushed: false,
            owed: false,
            cut: None,
        });
        Arc::new(Self {
            state,
            header_timeout,
            idle_timeout,
        })
    }

    /// When the client is too late, if it stays as it is.
    pub(super) fn deadline(&self) -> Option<(Instant, Expired)> {
        match self.lock().phase {
            Phase::Idle(since) => Some((since + self.idle_timeout, Expired::Idle)),
            Phase::Head(since) => Some((since + self.header_timeout, Expired::Head)),
            Phase::Waiting => None,
            Phase::Body(moved) => Some((moved + self.idle_timeout, Expired::Body)),
        }
    }

    /// A whole head has arrived; what was seen of its framing.
    pub(super) fn head_read(&self) -> Framing {
        let mut state = self.lock();
        state.phase = Phase::Waiting;
        std::mem::take(&mut state.framing)
    }

    /// What has been seen of the framing of a head that is not whole.
    pub(super) fn head_seen(&self) -> Framing {
        self.lock().framing
    }

    /// The answer begins `now`; what is returned marks its end when it is dropped.
    pub(super) fn answering(self: &Arc<Self>, now: Instant) -> Answering {
        let mut state = self.lock();
        state.phase = Phase::Body(now);
        state.answering = true;
        state.owed = true;
        Answering(self.clone())
    }

    /// The request has a body; what is returned marks its end when it is dropped.
    pub(super) fn receiving(self: &Arc<Self>) -> Receiving {
        self.lock().receiving = true;
        Receiving(self.clone())
    }

    fn read(&self, bytes: &[u8]) {
        let mut state = self.lock();
        match state.phase {
            Phase::Idle(_) => {
                state.phase = Phase::Head(Instant::now());
                state.framing = Framing::default();
                state.framing.feed(bytes);
            }
            Phase::Head(_) => state.framing.feed(bytes),
            Phase::Body(_) => state.phase = Phase::Body(Instant::now()),
            Phase::Waiting => {}
        }
    }

    /// Whether bytes of an answer are still in hyper's buffer. A connection that
    /// is done may have some; taken apart then, it would lose them.
    pub(super) fn is_unflushed(&self) -> bool {
        self.lock().unflushed
    }

    /// The answer stands still, and is not waited for any longer.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        // Else it was the target who had nothing to say.
        state.cut = Some(if state.unflushed { CLIENT_SLOW } else { IDLE });
    }

    /// Whether no byte of an answer is under way, and none is to come. What hyper writes
    /// then is its own answer to a head that it could not parse.
    pub(super) fn owes_nothing(&self) -> bool {
        self.lock().owes_nothing()
    }

    /// hyper is about to write; whether it may.
    fn writes(&self) -> bool {
        let mut state = self.lock();
        let may = !state.owes_nothing();
        state.unflushed |= may;
        may
    }

    fn flushed(&self) {
        let mut state = self.lock();
        state.unflushed = false;
        // Once it has ended, hyper has all of it before it flushes.
        state.owed = state.answering;
    }

    fn wrote(&self) {
        let mut state = self.lock();
        state.phase = match state.phase {
            Phase::Idle(_) => Phase::Idle(Instant::now()),
            Phase::Body(_) => Phase::Body(Instant::now()),
            same @ (Phase::Head(_) | Phase::Waiting) => same,
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answering(Arc<Pace>);

impl Answering {
    /// Why it was cut off, if it was.
    pub(super) fn cut(&self) -> Option<&'static str> {
        self.0.lock().cut
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.answering = false;
        state.owed = true;
        state.moved();
    }
}

/// A request's body on its way.
#[derive(Debug)]
pub(super) struct Receiving(Arc<Pace>);

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receiving = false;
        if matches!(state.phase, Phase::Body(_)) {
            state.moved();
        }
    }
}

impl State {
    fn owes_nothing(&self) -> bool {
        !self.owed && matches!(self.phase, Phase::Idle(_) | Phase::Head(_))
    }

    /// Something has ended: what goes on?
    fn moved(&mut self) {
        let now = Instant::now();
        self.phase = match self.answering || self.receiving {
            true => Phase::Body(now),
            false => Phase::Idle(now),
        };
    }
}

/// A client's stream that tells its pace of every byte, and keeps back what hyper itself
/// would answer: `fault` makes all answers of the balancer's own.
#[derive(Debug)]
pub(super) struct PacedStream {
    pub(super) stream: Wire,
    pub(super) pace: Arc<Pace>,
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(bytes @ [_, ..]) = buffer.filled().get(before..) {
            self.pace.read(bytes);
        }
        result
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.pace.writes() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.pace.writes() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once it has nothing left to write; TLS may have.
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if result.is_ready() {
            self.pace.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl PacedStream {
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.pace.wrote();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_is_timed_from_its_first_byte() {
        let pace = Pace::new(Duration::from_secs(30), Duration::from_secs(60));
        let start = Instant::now();
        assert_eq!(
            pace.deadline(),
            Some((start + Duration::from_secs(60), Expired::Idle))
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        pace.read(b"G");
        tokio::time::advance(Duration::from_secs(10)).await;
        pace.read(b"G");
        assert_eq!(
            pace.deadline(),
            Some((start + Duration::from_secs(40), Expired::Head))
        );
        pace.head_read();
        assert_eq!(pace.deadline(), None);
        let answering = pace.answering(Instant::now());
        assert_eq!(
            pace.deadline(),
            Some((start + Duration::from_secs(80), Expired::Body))
        );
        drop(answering);
        assert_eq!(
            pace.deadline(),
            Some((start + Duration::from_secs(80), Expired::Idle))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_hyper_writes_unasked_is_told_from_answers() {
        let pace = Pace::new(Duration::from_secs(30), Duration::from_secs(60));
        assert!(!pace.writes());
        pace.read(b"G");
        assert!(pace.owes_nothing());
        pace.head_read();
        // An invitation to send the body.
        assert!(pace.writes());
        pace.flushed();
        let answering = pace.answering(Instant::now());
        pace.flushed();
        assert!(pace.writes());
        drop(answering);
        // Its end, even behind the next head's first byte.
        pace.read(b"G");
        assert!(pace.writes());
        pace.flushed();
        assert!(!pace.writes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_outlasts_its_answer_is_not_taken_for_a_head() {
        let pace = Pace::new(Duration::from_secs(30), Duration::from_secs(60));
        let start = Instant::now();
        let limit = |end: &'static str| match (pace.deadline(), end) {
            (Some((_, Expired::Body)), "body") | (Some((_, Expired::Idle)), "idle") => true,
            (found, _) => panic!("{found:?}"),
        };
        pace.read(b"POST");
        pace.head_read();
        let receiving = pace.receiving();
        drop(pace.answering(Instant::now()));
        assert!(limit("body"));
        tokio::time::advance(Duration::from_secs(40)).await;
        pace.read(b"more");
        let later = start + Duration::from_secs(100);
        assert_eq!(pace.deadline(), Some((later, Expired::Body)));
        drop(receiving);
        assert!(limit("idle"));
        // The other way round.
        pace.head_read();
        let (receiving, answering) = (pace.receiving(), pace.answering(Instant::now()));
        drop(receiving);
        assert!(limit("body"));
        drop(answering);
        assert!(limit("idle"));
        // A body that ends while the target thinks changes nothing.
        pace.head_read();
        drop(pace.receiving());
        assert_eq!(pace.deadline(), None);
    }
}
