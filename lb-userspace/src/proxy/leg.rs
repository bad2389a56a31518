//! An HTTP/1.1 connection to a target. Nobody runs it but who uses it: a request, and
//! then the body of its answer. So a request is one task from end to end, which wakes
//! no other on its way.

use std::future::poll_fn;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, Parts, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::Parcel;
use super::connection::HYPERS_HEADERS;
use super::pool::Counted;
use super::wire::Wire;
use crate::config::Limits;

/// A connection to a target; it is cut when dropped.
pub(super) struct Leg {
    sender: SendRequest<Parcel>,
    /// Boxed: it is large, and is handed on with every answer. `None` once it has ended
    /// with a request that it had not taken.
    connection: Option<Box<Connection<TokioIo<Wire>, Parcel>>>,
    /// The connection has nothing more to do.
    ended: bool,
    /// As long as it is open.
    counted: Option<Counted>,
}

impl Leg {
    pub(super) async fn new(stream: Wire, limits: &Limits) -> hyper::Result<Self> {
        let mut builder = Builder::new();
        builder.preserve_header_case(true);
        if limits.header_count != HYPERS_HEADERS {
            builder.max_headers(limits.header_count);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            connection: Some(Box::new(connection)),
            ended: false,
            counted: None,
        })
    }

    /// Counts it as long as it is open.
    pub(super) fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Sends a request and waits for the head of its answer; the error has the request
    /// in it if nothing of it was sent.
    pub(super) async fn ask(
        &mut self,
        request: Request<Parcel>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Parcel>>> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.run(cx);
            let answered = answer.as_mut().poll(cx);
            if answered.is_pending() && self.ended {
                // It gives the request back when it is dropped, and not before.
                self.connection = None;
                return answer.as_mut().poll(cx);
            }
            answered
        })
        .await
    }

    /// Sends and receives what can be.
    pub(super) fn run(&mut self, cx: &mut Context<'_>) {
        if !self.ended
            && let Some(connection) = &mut self.connection
        {
            // What was wrong is told to who waits for the answer or its body.
            self.ended = connection.poll_without_shutdown(cx).is_ready();
        }
    }

    /// Whether the last answer is whole and another request could be sent.
    pub(super) fn is_free(&mut self, cx: &mut Context<'_>) -> bool {
        self.run(cx);
        !self.ended && self.sender.is_ready()
    }

    /// Goes on with a request whose answer has come before its end; whether another
    /// request could be sent then.
    pub(super) async fn complete(&mut self) -> bool {
        poll_fn(|cx| {
            self.run(cx);
            if self.ended {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await
    }

    /// The stream, and what was read past a 101; `None` if it broke.
    pub(super) async fn finish(self) -> Option<Parts<TokioIo<Wire>>> {
        let mut connection = self.connection?;
        if !self.ended {
            poll_fn(|cx| connection.poll_without_shutdown(cx))
                .await
                .ok()?;
        }
        Some(connection.into_parts())
    }

    /// Says farewell, where TLS has a word for it.
    pub(super) async fn close(self) {
        drop(self.sender);
        if !self.ended
            && let Some(connection) = self.connection
        {
            let _ = connection.await;
        }
    }
}
