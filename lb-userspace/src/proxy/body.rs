//! Bodies on their way through: streamed, never collected.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::books::Books;
use super::headers::Nominated;
use super::http2;
use super::pace::{Answering, Pace, Receiving};
use super::pool::Lent;
use super::stickiness::Ear;
use crate::target::InFlight;

/// A request body, as its client sends it.
pub(super) enum Upload {
    /// Until it has ended, its connection's pace is told so.
    Http1(Incoming, Option<Receiving>),
    Http2(http2::Upload),
}

impl Upload {
    pub(super) fn http1(body: Incoming, pace: &Arc<Pace>) -> Self {
        let receiving = (!body.is_end_stream()).then(|| pace.receiving());
        Self::Http1(body, receiving)
    }
}

/// What breaks a body off.
type Broken = Box<dyn Error + Send + Sync>;

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(body, receiving) => {
                let frame = Pin::new(&mut *body).poll_frame(cx);
                let over = matches!(frame, Poll::Ready(None | Some(Err(_))));
                if over || body.is_end_stream() {
                    receiving.take();
                }
                frame.map_err(Broken::from)
            }
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Broken::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body, _) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body, _) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A response body: the balancer's own words or a target's bytes. Boxed: it is large, and
/// is handed on many times before it is read.
pub(super) struct Reply(Box<Outgoing>);

struct Outgoing {
    source: Source,
    /// Dropped with the body: whatever must outlive the answer.
    held: Option<Box<dyn Send>>,
    /// Its target is busy with it until the body is dropped.
    in_flight: Option<InFlight>,
    /// What is not passed on among trailers.
    nominated: Nominated,
    books: Option<Books>,
    /// Until it is dropped, the connection's pace is that of an answer.
    answering: Option<Answering>,
    ear: Option<Box<Ear>>,
}

enum Source {
    Text(Full<Bytes>),
    Target(Answer),
    /// A target's that was asked for a WebSocket over HTTP/2.
    Stream(http2::Upload),
}

impl Reply {
    pub(super) fn bytes(bytes: Bytes) -> Self {
        Self::of(Source::Text(Full::new(bytes)))
    }

    pub(super) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    pub(super) fn target(body: Incoming, lent: Option<Lent>) -> Self {
        Self::of(Source::Target(Answer {
            body,
            lent,
            broken: None,
        }))
    }

    pub(super) fn stream(body: http2::Upload) -> Self {
        Self::of(Source::Stream(body))
    }

    fn of(source: Source) -> Self {
        Self(Box::new(Outgoing {
            source,
            held: None,
            in_flight: None,
            nominated: Nominated::default(),
            books: None,
            answering: None,
            ear: None,
        }))
    }

    /// Lets somebody hear the body before the client does.
    pub(super) fn hear(&mut self, ear: Option<Ear>) {
        self.0.ear = ear.map(Box::new);
    }

    /// Keeps from its trailers what its head has named.
    pub(super) fn leave_out(&mut self, nominated: Nominated) {
        self.0.nominated = nominated;
    }

    /// Keeps something until the body is done with.
    pub(super) fn hold(&mut self, held: impl Send + 'static) {
        self.0.held = Some(match self.0.held.take() {
            Some(other) => Box::new((other, held)),
            None => Box::new(held),
        });
    }

    /// Counts it as its target's until it is done.
    pub(super) fn count(&mut self, in_flight: InFlight) {
        self.0.in_flight = Some(in_flight);
    }

    /// Keeps the books of the answer.
    pub(super) fn book(&mut self, books: Books) {
        self.0.books = Some(books);
    }

    /// Makes the pace of its connection that of an answer.
    pub(super) fn pace(&mut self, answering: Answering) {
        self.0.answering = Some(answering);
    }

    /// Nothing moves, and it is not waited for any longer.
    pub(super) fn cut(&mut self, cause: &'static str) {
        self.0.cut(cause);
    }
}

impl Outgoing {
    fn cut(&mut self, cause: &'static str) {
        if let Some(books) = &mut self.books {
            books.cut(cause);
        }
    }

    fn tell(&mut self, frame: &Poll<Option<Result<Frame<Bytes>, Broken>>>) {
        let (Some(ear), Poll::Ready(Some(Ok(frame)))) = (&mut self.ear, frame) else {
            return;
        };
        if frame.data_ref().is_some_and(|piece| !ear.hear(piece)) {
            self.ear = None;
        }
    }

    fn note(&mut self, frame: &Poll<Option<Result<Frame<Bytes>, Broken>>>) {
        let Some(books) = &mut self.books else {
            return;
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => books.sent(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(Some(Err(_))) => books.broken(),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }
}

impl Drop for Outgoing {
    /// hyper does not ask for the end of a body whose length it knows; of one that
    /// must not be sent it asks for nothing.
    fn drop(&mut self) {
        let whole = match &self.source {
            Source::Text(_) => true,
            Source::Target(answer) => answer.body.is_end_stream(),
            Source::Stream(body) => body.is_end_stream(),
        };
        if let Some(cause) = self.answering.as_ref().and_then(Answering::cut) {
            self.cut(cause);
        }
        if let Some(books) = self.books.as_mut().filter(|_| whole) {
            books.done();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self.0;
        let mut frame = match &mut this.source {
            Source::Text(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Source::Target(answer) => answer.poll_frame(cx).map_err(Broken::from),
            Source::Stream(body) => Pin::new(body).poll_frame(cx).map_err(Broken::from),
        };
        if let Some(trailers) = trailers(&mut frame) {
            this.nominated.strip_trailers(trailers);
        }
        this.note(&frame);
        this.tell(&frame);
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.0.source {
            Source::Text(body) => body.is_end_stream(),
            Source::Target(answer) => answer.body.is_end_stream(),
            Source::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0.source {
            Source::Text(body) => body.size_hint(),
            Source::Target(answer) => answer.body.size_hint(),
            Source::Stream(body) => body.size_hint(),
        }
    }
}

/// A target's answer.
struct Answer {
    body: Incoming,
    /// The connection it comes over, if it is for the body's reader to run it.
    lent: Option<Lent>,
    broken: Option<hyper::Error>,
}

impl Answer {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Pending, Some(lent)) = (&frame, &mut self.lent) {
            lent.leg.run(cx);
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        if let Poll::Ready(Some(Err(error))) = frame {
            // Not before the next poll: what came before it is written until then, and is
            // forgotten after it.
            self.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let whole = matches!(frame, Poll::Ready(None)) || self.body.is_end_stream();
        if whole && let Some(lent) = self.lent.take() {
            lent.give_back(cx);
        }
        frame
    }
}

/// A request body that can be offered to another target as long as no target
/// has asked for its first byte.
pub(crate) struct Parcel {
    /// `None`: there is none.
    shared: Option<Arc<Mutex<Content>>>,
    taken: Option<Upload>,
}

/// The sender's view of a request body; `None` if there is none.
#[derive(Clone)]
pub(super) struct Sender(Option<Arc<Mutex<Content>>>);

struct Content {
    /// What is not passed on among trailers.
    nominated: Nominated,
    body: Option<Upload>,
    size: SizeHint,
    progress: Progress,
    passed: Passed,
    /// Once its answer has begun: its target is busy with both.
    in_flight: Option<Arc<InFlight>>,
}

/// How many bytes of a request's body have gone to targets; 0 where there is none. Whoever
/// has it does not keep the body.
#[derive(Debug, Clone, Default)]
pub(super) struct Passed(Option<Arc<AtomicU64>>);

impl Passed {
    fn none_yet() -> Self {
        Self(Some(Arc::default()))
    }

    fn add(&self, bytes: usize) {
        if let Some(passed) = &self.0 {
            passed.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// By now.
    pub(super) fn bytes(&self) -> u64 {
        let passed = self.0.as_ref();
        passed.map_or(0, |passed| passed.load(Ordering::Relaxed))
    }
}

/// How a request body is getting on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// When a piece of it last went to the target.
    pub(super) moved: Option<Instant>,
    /// The target would take more, and the client has not sent it.
    pub(super) starved: bool,
}

impl Sender {
    pub(super) fn new(body: Upload, nominated: Nominated) -> Self {
        let content = (!body.is_end_stream()).then(|| Content {
            nominated,
            size: body.size_hint(),
            body: Some(body),
            progress: Progress::default(),
            passed: Passed::none_yet(),
            in_flight: None,
        });
        Self(content.map(|content| Arc::new(Mutex::new(content))))
    }

    /// The body, for one more target; `None` once a target has begun to take it.
    pub(super) fn parcel(&self) -> Option<Parcel> {
        let untouched = |shared: &Arc<_>| lock(shared).body.is_some();
        self.0.as_ref().is_none_or(untouched).then(|| Parcel {
            shared: self.0.clone(),
            taken: None,
        })
    }

    /// Whether no target takes any more of it: hyper drops a body that has been sent.
    pub(super) fn is_over(&self) -> bool {
        let unshared = |shared| Arc::strong_count(shared) == 1;
        self.0.as_ref().is_none_or(unshared)
    }

    /// The answer has begun: its target is busy until both are over.
    pub(super) fn count(&self, in_flight: InFlight, answer: &mut Reply) {
        match &self.0 {
            Some(shared) if !self.is_over() => {
                let in_flight = Arc::new(in_flight);
                lock(shared).in_flight = Some(in_flight.clone());
                answer.hold(in_flight);
            }
            Some(_) | None => answer.count(in_flight),
        }
    }

    /// Waits until the answer is done with, and nothing of the body has gone to the target
    /// for so long.
    pub(super) async fn stands_still(&self, limit: Duration) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until((since + limit).into()).await;
            let moved = self.progress().moved;
            since = match moved.filter(|moved| *moved > since) {
                Some(moved) => moved,
                None if self.is_answered() => return,
                None => Instant::now(),
            };
        }
    }

    fn is_answered(&self) -> bool {
        let is_alone = |shared: &Arc<_>| {
            let content: &Mutex<Content> = shared;
            let in_flight = lock(content).in_flight.clone();
            // Ours, and the one that has just been taken.
            in_flight.is_none_or(|in_flight| Arc::strong_count(&in_flight) == 2)
        };
        self.0.as_ref().is_none_or(is_alone)
    }

    /// How the body is getting on.
    pub(super) fn progress(&self) -> Progress {
        let progress = |shared: &Arc<_>| lock(shared).progress;
        self.0.as_ref().map(progress).unwrap_or_default()
    }

    /// How much of it has gone to targets, also when this is gone.
    pub(super) fn passed(&self) -> Passed {
        let passed = |shared: &Arc<_>| lock(shared).passed.clone();
        self.0.as_ref().map(passed).unwrap_or_default()
    }
}

impl Parcel {
    /// No body.
    pub(super) fn empty() -> Self {
        Self {
            shared: None,
            taken: None,
        }
    }
}

impl Body for Parcel {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(shared) = &this.shared else {
            return Poll::Ready(None);
        };
        let mut content = lock(shared);
        if this.taken.is_none() {
            this.taken = content.body.take();
        }
        let Some(body) = &mut this.taken else {
            return Poll::Ready(None);
        };
        let mut frame = Pin::new(&mut *body).poll_frame(cx);
        if let Some(trailers) = trailers(&mut frame) {
            content.nominated.strip_request_trailers(trailers);
        }
        content.progress.starved = frame.is_pending();
        if frame.is_ready() {
            content.progress.moved = Some(Instant::now());
        }
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            content.passed.add(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.taken {
            Some(body) => body.is_end_stream(),
            None => self.shared.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.taken, &self.shared) {
            (Some(body), _) => body.size_hint(),
            (None, Some(shared)) => lock(shared).size,
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

fn trailers<E>(frame: &mut Poll<Option<Result<Frame<Bytes>, E>>>) -> Option<&mut HeaderMap> {
    match frame {
        Poll::Ready(Some(Ok(frame))) => frame.trailers_mut(),
        Poll::Ready(None | Some(Err(_))) | Poll::Pending => None,
    }
}

fn lock(content: &Mutex<Content>) -> std::sync::MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}
