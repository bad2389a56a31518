//! One stream: a request, its answer, and the tunnel that may come of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, Entry, HeaderValue};
use http::{Method, Request, Response, StatusCode, response};
use hyper::body::{Body, Frame};
use tokio::time::{Instant, timeout};

use super::Client;
use super::conduct::Open;
use super::request;
use super::socket::Socket;
use super::upload::{Moved, Upload};
use crate::proxy::body::{self, Reply};
use crate::proxy::headers;
use crate::proxy::pace::{CLIENT_SLOW, IDLE};
use crate::proxy::tunnel::Tunnel;
use crate::proxy::wire::Wire;

/// Answers what a client asks on a stream of its connection.
pub(super) async fn run(
    client: Arc<Client>,
    (request, mut respond): (Request<RecvStream>, SendResponse<Bytes>),
    open: Open,
) {
    let (mut head, body) = request.into_parts();
    let bodiless = head.method == Method::HEAD;
    let (body, tunnel_end) = match request::is_extended_connect(&head) {
        true => (None, Some(body)),
        false => (Some(body), None),
    };
    if head.headers.contains_key(EXPECT) {
        invite(&mut respond);
    }
    let moved = Moved::new();
    let upload = Upload::new(body, &head.headers, moved.clone());
    let proxy = &client.proxy;
    let read = request::arrange(&mut head, &proxy.shared.limits);
    let request = (head, body::Upload::Http2(upload));
    let peer = client.peer();
    let response = tokio::select! {
        // First: what has been taken back already is not begun.
        biased;
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return open.abandoned(),
        response = proxy.handle(&peer, request, read) => response,
    };
    match (peer.take(), tunnel_end) {
        (Some(tunnel), Some(from_client)) => {
            begin_tunnel(response, &mut respond, from_client, tunnel, open);
        }
        (Some(_), None) | (None, _) => {
            let limit = proxy.listener.idle_timeout;
            answer(response, respond, bodiless, Patience { moved, limit }).await;
        }
    }
}

/// Lets the client send a body that it holds back until it is asked.
fn invite(respond: &mut SendResponse<Bytes>) {
    let mut go_on = Response::new(());
    *go_on.status_mut() = StatusCode::CONTINUE;
    // Else it sends it a little later.
    let _ = respond.send_informational(go_on);
}

/// Opens the tunnel that has been laid.
fn begin_tunnel(
    response: Response<Reply>,
    respond: &mut SendResponse<Bytes>,
    from_client: RecvStream,
    tunnel: Box<Tunnel>,
    open: Open,
) {
    let (mut head, _) = response.into_parts();
    dress(&mut head);
    // Else the client has left, which the tunnel hears of when it is dropped.
    if let Ok(to_client) = respond.send_response(Response::from_parts(head, ()), false) {
        let socket = Wire::Http2(Box::new(Socket::new(from_client, to_client)));
        tunnel.begin(socket, Bytes::new(), open);
    }
}

/// How long an answer may stand still.
struct Patience {
    moved: Moved,
    limit: Duration,
}

/// Why an answer did not reach its end.
enum Broken {
    /// The client does not want it any more.
    Gone,
    /// The target broke off.
    Target,
    /// Nothing moved, neither way; what the access log says of it.
    Still(&'static str),
}

async fn answer(
    response: Response<Reply>,
    mut respond: SendResponse<Bytes>,
    bodiless: bool,
    patience: Patience,
) {
    let (mut head, mut body) = response.into_parts();
    dress(&mut head);
    if let (false, Some(length)) = (body.is_end_stream(), body.size_hint().exact()) {
        head.headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    let whole = bodiless || body.is_end_stream();
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), whole) else {
        return;
    };
    let sent = match whole {
        true => Ok(()),
        false => send(&mut body, &mut stream, &patience).await,
    };
    match sent {
        Ok(()) => {
            drop(body);
            await_rest(&mut stream, &patience).await;
        }
        Err(Broken::Gone) => {}
        Err(Broken::Target) => stream.send_reset(Reason::INTERNAL_ERROR),
        Err(Broken::Still(cause)) => {
            body.cut(cause);
            stream.send_reset(Reason::CANCEL);
        }
    }
}

/// The answer is whole, and may have overtaken its request: what is left of that goes on as
/// long as it moves, and the stream with it (RFC 9113 section 8.1).
async fn await_rest(stream: &mut SendStream<Bytes>, patience: &Patience) {
    if patience.wait(patience.moved.over(), IDLE).await.is_err() {
        stream.send_reset(Reason::NO_ERROR);
    }
}

/// What every answer has here, and what none must have.
fn dress(head: &mut response::Parts) {
    headers::strip_hop_by_hop(&mut head.headers);
    if let Entry::Vacant(date) = head.headers.entry(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        date.insert(now);
    }
}

/// Sends a body as fast as the client takes it.
async fn send(
    body: &mut Reply,
    stream: &mut SendStream<Bytes>,
    patience: &Patience,
) -> Result<(), Broken> {
    loop {
        let next = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Broken::Gone)),
            Poll::Pending => Pin::new(&mut *body).poll_frame(cx).map(Ok),
        });
        let frame = patience.wait(next, IDLE).await??;
        let gone = |_| Broken::Gone;
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => return stream.send_data(Bytes::new(), true).map_err(gone),
            Some(Err(_)) => return Err(Broken::Target),
            Some(Ok(Ok(data))) => {
                let last = body.is_end_stream();
                send_data(data, last, stream, patience).await?;
                if last {
                    return Ok(());
                }
            }
            Some(Ok(Err(frame))) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return stream.send_trailers(trailers).map_err(gone);
                }
            }
        }
    }
}

async fn send_data(
    mut data: Bytes,
    last: bool,
    stream: &mut SendStream<Bytes>,
    patience: &Patience,
) -> Result<(), Broken> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => match patience
                .wait(poll_fn(|cx| stream.poll_capacity(cx)), CLIENT_SLOW)
                .await?
            {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Err(Broken::Gone),
            },
            room => room,
        };
        let part = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        stream.send_data(part, end).map_err(|_| Broken::Gone)?;
        if end {
            return Ok(());
        }
    }
    match last {
        true => stream
            .send_data(Bytes::new(), true)
            .map_err(|_| Broken::Gone),
        false => Ok(()),
    }
}

impl Patience {
    /// Waits, as long as something moves on the stream. What it waits for is the cause if
    /// nothing does.
    async fn wait<T>(
        &self,
        what: impl Future<Output = T>,
        cause: &'static str,
    ) -> Result<T, Broken> {
        tokio::pin!(what);
        let mut since = Instant::now();
        loop {
            if let Ok(result) = timeout(self.limit.saturating_sub(since.elapsed()), &mut what).await
            {
                return Ok(result);
            }
            // The request's body may have moved meanwhile.
            match self.moved.last() {
                moved if moved > since => since = moved,
                _ => return Err(Broken::Still(cause)),
            }
        }
    }
}
