//! What a client gets: the balancer's own words, or a target's answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::super::books::Books;
use super::super::headers::Nominated;
use super::super::http2;
use super::super::pace::Answering;
use super::super::pool::Lent;
use super::super::stickiness::Ear;
use super::{Broken, trailers};
use crate::target::InFlight;

/// A response body: the balancer's own words or a target's bytes. Boxed: it is large, and
/// is handed on many times before it is read.
pub(in crate::proxy) struct Reply(Box<Outgoing>);

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

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(body) => body.is_end_stream(),
            Self::Target(answer) => answer.body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }
}

impl Reply {
    pub(in crate::proxy) fn bytes(bytes: Bytes) -> Self {
        Self::of(Source::Text(Full::new(bytes)))
    }

    pub(in crate::proxy) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    pub(in crate::proxy) fn target(body: Incoming, lent: Option<Lent>) -> Self {
        Self::of(Source::Target(Answer {
            body,
            lent,
            broken: None,
        }))
    }

    pub(in crate::proxy) fn stream(body: http2::Upload) -> Self {
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
    pub(in crate::proxy) fn hear(&mut self, ear: Option<Ear>) {
        self.0.ear = ear.map(Box::new);
    }

    /// Keeps from its trailers what its head has named.
    pub(in crate::proxy) fn leave_out(&mut self, nominated: Nominated) {
        self.0.nominated = nominated;
    }

    /// Keeps something until the body is done with.
    pub(in crate::proxy) fn hold(&mut self, held: impl Send + 'static) {
        self.0.held = Some(match self.0.held.take() {
            Some(other) => Box::new((other, held)),
            None => Box::new(held),
        });
    }

    /// Counts it as its target's until it is done.
    pub(in crate::proxy) fn count(&mut self, in_flight: InFlight) {
        self.0.in_flight = Some(in_flight);
    }

    /// Keeps the books of the answer.
    pub(in crate::proxy) fn book(&mut self, books: Books) {
        self.0.books = Some(books);
    }

    /// Makes the pace of its connection that of an answer.
    pub(in crate::proxy) fn pace(&mut self, answering: Answering) {
        self.0.answering = Some(answering);
    }

    /// Nothing moves, and it is not waited for any longer.
    pub(in crate::proxy) fn cut(&mut self, cause: &'static str) {
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
        let whole = matches!(self.source, Source::Text(_)) || self.source.is_end_stream();
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
        self.0.source.is_end_stream()
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
