//! A request's body on a stream. The client may send more as fast as the target
//! takes what it has sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How a stream's body is getting on toward the target.
#[derive(Debug, Clone)]
pub(super) struct Moved(Arc<Progress>);

#[derive(Debug)]
struct Progress {
    /// When something last moved.
    last: Mutex<Instant>,
    /// Nobody takes any more of it.
    over: Notify,
}

impl Moved {
    pub(super) fn new() -> Self {
        Self(Arc::new(Progress {
            last: Mutex::new(Instant::now()),
            over: Notify::new(),
        }))
    }

    pub(super) fn last(&self) -> Instant {
        *self.lock()
    }

    /// Waits until the body is dropped: it has gone to the target, or is not wanted.
    pub(super) async fn over(&self) {
        self.0.over.notified().await;
    }

    fn now(&self) {
        *self.lock() = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body.
pub(in crate::proxy) struct Upload {
    /// `None`: there is none, the stream is for a tunnel.
    stream: Option<RecvStream>,
    /// What is left of it, where its head says how long it is; the library counts.
    left: Option<u64>,
    moved: Moved,
    data_ended: bool,
}

impl Upload {
    pub(super) fn new(stream: Option<RecvStream>, headers: &HeaderMap, moved: Moved) -> Self {
        let length = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
        let left = match length {
            Some(Ok(text)) => text.parse().ok(),
            Some(Err(_)) | None => None,
        };
        Self {
            stream,
            left,
            moved,
            data_ended: false,
        }
    }
}

impl Upload {
    /// The other way round: the body of an answer.
    pub(in crate::proxy) fn of_target(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self::new(Some(stream), headers, Moved::new())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Dropped first: who is told finds the stream let go of.
        self.stream = None;
        self.moved.0.over.notify_one();
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        while !this.data_ended {
            let Some(data) = ready!(stream.poll_data(cx)) else {
                this.data_ended = true;
                break;
            };
            let data = data?;
            // An end comes as a piece too.
            if data.is_empty() {
                continue;
            }
            stream.flow_control().release_capacity(data.len())?;
            this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
            this.moved.now();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|result| result.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (self.is_end_stream(), self.left) {
            (true, _) => SizeHint::with_exact(0),
            (false, Some(left)) => SizeHint::with_exact(left),
            (false, None) => SizeHint::default(),
        }
    }
}
