//! Bodies on their way through: streamed, never collected.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

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

/// A response body: the balancer's own words or a target's bytes.
pub(super) struct Reply {
    source: Source,
    /// Dropped with the body: whatever must outlive the answer.
    held: Option<Box<dyn Send>>,
    /// What is not passed on among trailers.
    nominated: Nominated,
    books: Option<Box<Books>>,
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
        Self {
            source,
            held: None,
            nominated: Nominated::default(),
            books: None,
            answering: None,
            ear: None,
        }
    }

    /// Lets somebody hear the body before the client does.
    pub(super) fn heard_by(mut self, ear: Option<Ear>) -> Self {
        self.ear = ear.map(Box::new);
        self
    }

    /// Keeps from its trailers what its head has named.
    pub(super) fn without(mut self, nominated: Nominated) -> Self {
        self.nominated = nominated;
        self
    }

    /// Keeps something until the body is done with.
    pub(super) fn holding(mut self, held: impl Send + 'static) -> Self {
        self.held = Some(match self.held.take() {
            Some(other) => Box::new((other, held)),
            None => Box::new(held),
        });
        self
    }
}

impl Reply {
    /// Keeps the books of the answer.
    pub(super) fn booked(mut self, books: Books) -> Self {
        self.books = Some(Box::new(books));
        self
    }

    /// Makes the pace of its connection that of an answer.
    pub(super) fn paced(mut self, answering: Answering) -> Self {
        self.answering = Some(answering);
        self
    }

    /// Nothing moves, and it is not waited for any longer.
    pub(super) fn cut(&mut self, cause: &'static str) {
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

    fn book(&mut self, frame: &Poll<Option<Result<Frame<Bytes>, Broken>>>) {
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

impl Drop for Reply {
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
        let mut frame = match &mut self.source {
            Source::Text(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Source::Target(answer) => answer.poll_frame(cx).map_err(Broken::from),
            Source::Stream(body) => Pin::new(body).poll_frame(cx).map_err(Broken::from),
        };
        if let Some(trailers) = trailers(&mut frame) {
            self.nominated.strip_trailers(trailers);
        }
        self.book(&frame);
        self.tell(&frame);
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(body) => body.is_end_stream(),
            Source::Target(answer) => answer.body.is_end_stream(),
            Source::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
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
    shared: Arc<Mutex<Content>>,
    taken: Option<Upload>,
}

/// The sender's view of a request body.
pub(super) struct Sender(Arc<Mutex<Content>>);

struct Content {
    /// What is not passed on among trailers.
    nominated: Nominated,
    body: Option<Upload>,
    size: SizeHint,
    empty: bool,
    progress: Progress,
}

/// How a request body is getting on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// When a piece of it last went to the target.
    pub(super) moved: Instant,
    /// The target would take more, and the client has not sent it.
    pub(super) starved: bool,
    /// Bytes that went to the target.
    pub(super) bytes: u64,
}

impl Content {
    fn new(body: Option<Upload>, nominated: Nominated) -> Arc<Mutex<Self>> {
        let size = body.as_ref().map(Upload::size_hint);
        let progress = Progress {
            moved: Instant::now(),
            starved: false,
            bytes: 0,
        };
        Arc::new(Mutex::new(Self {
            nominated,
            size: size.unwrap_or_else(|| SizeHint::with_exact(0)),
            empty: body.as_ref().is_none_or(Upload::is_end_stream),
            body,
            progress,
        }))
    }
}

impl Sender {
    pub(super) fn new(body: Upload, nominated: Nominated) -> Self {
        Self(Content::new(Some(body), nominated))
    }

    /// The body, for one more target; `None` once a target has begun to take it.
    pub(super) fn parcel(&self) -> Option<Parcel> {
        let untouched = lock(&self.0).body.is_some();
        untouched.then(|| Parcel {
            shared: self.0.clone(),
            taken: None,
        })
    }

    /// Whether no target takes any more of it: hyper drops a body that has been sent.
    pub(super) fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// How the body is getting on.
    pub(super) fn progress(&self) -> Progress {
        lock(&self.0).progress
    }
}

impl Parcel {
    /// No body.
    pub(super) fn empty() -> Self {
        Self {
            shared: Content::new(None, Nominated::default()),
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
        let mut content = lock(&this.shared);
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
            content.progress.moved = Instant::now();
        }
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            content.progress.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.taken {
            Some(body) => body.is_end_stream(),
            None => lock(&self.shared).empty,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.taken {
            Some(body) => body.size_hint(),
            None => lock(&self.shared).size,
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
