//! What a client sends, and how it is getting on toward a target.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::super::headers::Nominated;
use super::super::http2;
use super::super::pace::{Pace, Receiving};
use super::reply::Reply;
use super::{Broken, trailers};
use crate::target::InFlight;

/// A request body, as its client sends it.
pub(in crate::proxy) enum Upload {
    /// Until it has ended, its connection's pace is told so.
    Http1(Incoming, Option<Receiving>),
    Http2(http2::Upload),
}

impl Upload {
    pub(in crate::proxy) fn http1(body: Incoming, pace: &Arc<Pace>) -> Self {
        let receiving = (!body.is_end_stream()).then(|| pace.receiving());
        Self::Http1(body, receiving)
    }
}
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

/// A request body that can be offered to another target as long as no target
/// has asked for its first byte.
pub(crate) struct Parcel {
    /// `None`: there is none.
    shared: Option<Arc<Mutex<Content>>>,
    taken: Option<Upload>,
}

/// The sender's view of a request body; `None` if there is none.
#[derive(Clone)]
pub(in crate::proxy) struct Sender(Option<Arc<Mutex<Content>>>);

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
pub(in crate::proxy) struct Passed(Option<Arc<AtomicU64>>);

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
    pub(in crate::proxy) fn bytes(&self) -> u64 {
        let passed = self.0.as_ref();
        passed.map_or(0, |passed| passed.load(Ordering::Relaxed))
    }
}

/// How a request body is getting on.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::proxy) struct Progress {
    /// When a piece of it last went to the target.
    pub(in crate::proxy) moved: Option<Instant>,
    /// The target would take more, and the client has not sent it.
    pub(in crate::proxy) starved: bool,
}

impl Sender {
    pub(in crate::proxy) fn new(body: Upload, nominated: Nominated) -> Self {
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
    pub(in crate::proxy) fn parcel(&self) -> Option<Parcel> {
        let untouched = |shared: &Arc<_>| lock(shared).body.is_some();
        self.0.as_ref().is_none_or(untouched).then(|| Parcel {
            shared: self.0.clone(),
            taken: None,
        })
    }

    /// Whether no target takes any more of it: hyper drops a body that has been sent.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        let unshared = |shared| Arc::strong_count(shared) == 1;
        self.0.as_ref().is_none_or(unshared)
    }

    /// The answer has begun: its target is busy until both are over.
    pub(in crate::proxy) fn count(&self, in_flight: InFlight, answer: &mut Reply) {
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
    pub(in crate::proxy) async fn stands_still(&self, limit: Duration) {
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
            let content = lock(shared);
            let in_flight = content.in_flight.as_ref();
            in_flight.is_none_or(|in_flight| Arc::strong_count(in_flight) == 1)
        };
        self.0.as_ref().is_none_or(is_alone)
    }

    /// How the body is getting on.
    pub(in crate::proxy) fn progress(&self) -> Progress {
        let progress = |shared: &Arc<_>| lock(shared).progress;
        self.0.as_ref().map(progress).unwrap_or_default()
    }

    /// How much of it has gone to targets, also when this is gone.
    pub(in crate::proxy) fn passed(&self) -> Passed {
        let passed = |shared: &Arc<_>| lock(shared).passed.clone();
        self.0.as_ref().map(passed).unwrap_or_default()
    }
}

impl Parcel {
    /// No body.
    pub(in crate::proxy) fn empty() -> Self {
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

fn lock(content: &Mutex<Content>) -> std::sync::MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}
