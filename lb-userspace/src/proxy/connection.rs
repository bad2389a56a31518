//! One client connection: its requests in turn, its limits in time, and what it
//! becomes when a request was upgraded.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, TE, TRAILER};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::Proxy;
use super::body::{Reply, Upload};
use super::dial::Caller;
use super::fault::Fault;
use super::framing::Framing;
use super::gate::URI_MAX;
use super::headers::{self, Told};
use super::http2;
use super::last_seal::LastSeal;
use super::pace::{Expired, Pace, PacedStream};
use super::proxy_header::{self, Ends};
use super::stream;
use super::tunnel::Tunnel;
use super::wire::Wire;
use crate::config::{ErrorPages, Protocol};
use crate::dataplane;
use crate::drain::Stage;
use crate::room::{Admitted, Full};
use crate::tls::{self, Failed};

/// How long a client may go on sending what nobody reads, so that it gets to
/// read the answer before a reset takes it away.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// And how much.
pub(super) const LINGER_BYTES: usize = 256 * 1024;
/// Headers that hyper takes unasked. For as many by request it clears a table first, with
/// every head.
pub(super) const HYPERS_HEADERS: usize = 100;

/// The client of a connection, or of one HTTP/2 stream, as its requests see it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) caller: Caller,
    pub(super) told: Told,
    pub(super) last_seal: Arc<LastSeal>,
    tunnel: Mutex<Option<Box<Tunnel>>>,
}

impl Peer {
    pub(super) fn new(caller: Caller, told: Told, last_seal: Arc<LastSeal>) -> Self {
        Self {
            caller,
            told,
            last_seal,
            tunnel: Mutex::new(None),
        }
    }

    /// Lays a tunnel ready; it opens once the head of the answer is written.
    pub(super) fn lay(&self, tunnel: Tunnel) {
        *self.slot() = Some(Box::new(tunnel));
    }

    /// The tunnel, if one was laid.
    pub(super) fn take(&self) -> Option<Box<Tunnel>> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Box<Tunnel>>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of somebody who may be served.
pub(super) struct Arrived {
    pub(super) stream: TcpStream,
    pub(super) caller: Caller,
    /// Kept as long as the stream is.
    pub(super) admitted: Admitted,
}

/// Serves a client until it goes, is too slow, or its tunnel has been opened.
pub(crate) async fn serve(
    proxy: Arc<Proxy>,
    mut stream: TcpStream,
    client: SocketAddr,
    mut admitted: Admitted,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let socket = Ends { client, local };
    let Some(said) = introduce(&proxy, &mut stream, socket).await else {
        return;
    };
    if let Err(full) = admitted.of(said.client.ip(), &proxy.shared.sources) {
        return proxy.refuse(&stream, full.reason());
    }
    // Answers and frames are written whole; waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    let caller = Caller {
        said,
        socket,
        limits: dataplane::limits(&stream),
    };
    let arrived = Arrived {
        stream,
        caller,
        admitted,
    };
    match proxy.listener.protocol {
        Protocol::Http | Protocol::Https => serve_http(proxy, arrived).await,
        Protocol::Tcp | Protocol::Tls | Protocol::TlsPassthrough => {
            stream::serve(&proxy, arrived).await;
        }
    }
}

async fn serve_http(proxy: Arc<Proxy>, arrived: Arrived) {
    let Arrived {
        stream,
        caller,
        admitted,
    } = arrived;
    let stream = match &proxy.tls {
        None => Wire::Tcp(stream),
        // Boxed: a handshake takes far more room than what comes after it.
        Some(tls) => match Box::pin(uncover(&proxy, tls, stream, caller.said.client)).await {
            Ok(stream) => stream,
            Err(_) => return,
        },
    };
    let subject = proxy.listener.tells_subjects().then(|| stream.subject());
    let told = Told::new(
        caller.said,
        proxy.listener.x_forwarded_for,
        subject.flatten(),
    );
    if stream.speaks_http2() {
        Box::pin(http2::serve(proxy, stream, caller, told)).await;
        return drop(admitted);
    }
    let pace = Pace::new(
        proxy.shared.limits.header_timeout,
        proxy.listener.idle_timeout,
    );
    let peer = Arc::new(Peer::new(caller, told, Arc::default()));
    let service = Handler {
        proxy: proxy.clone(),
        peer: peer.clone(),
        pace: pace.clone(),
        until: Instant::now() + proxy.shared.limits.connection_lifetime,
    };
    let io = TokioIo::new(PacedStream {
        stream,
        pace: pace.clone(),
    });
    let mut connection = builder(&proxy).serve_connection(io, service);
    let end = drive(&proxy, &pace, &mut connection).await;
    if matches!(end, End::Expired(Expired::Body)) {
        pace.cut();
    }
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().stream;
    if matches!(end, End::Done(Ok(())))
        && let Some(tunnel) = peer.take()
    {
        return tunnel.begin(stream, parts.read_buf, admitted);
    }
    stream.keep_no_longer_than(proxy.listener.idle_timeout);
    match end {
        End::Done(Ok(())) => close_gently(stream).await,
        End::Done(Err(error)) if error.is_parse() => {
            let fault = unparsed(&error, &pace.head_seen());
            decline(&proxy, &peer, &pace, stream, fault).await;
        }
        End::Expired(Expired::Head) => {
            decline(&proxy, &peer, &pace, stream, Fault::ClientSlow).await;
        }
        End::Expired(Expired::Idle) if is_begun(&parts.read_buf) => {
            decline(&proxy, &peer, &pace, stream, Fault::ClientSlow).await;
        }
        End::Expired(Expired::Idle) => stream.take_leave().await,
        // An end would wait behind what the client does not take, as long as it likes, and
        // keep megabytes in the kernel meanwhile.
        End::Expired(Expired::Body) if pace.is_unflushed() => stream.reset_when_dropped(),
        // Broken off: nobody waits for a word.
        End::Done(Err(_)) | End::Expired(Expired::Body) => {}
    }
}

/// Who the client is: the socket's other end, or who that says it speaks for.
/// `None` if it had to say and did not, or is not to be believed.
async fn introduce(proxy: &Proxy, stream: &mut TcpStream, socket: Ends) -> Option<Ends> {
    let listener = &proxy.listener;
    if listener.proxies.is_empty() {
        return Some(socket);
    }
    let refuse = |reason: &str, error: Option<io::Error>| {
        debug!(listener = listener.name, client = %socket.client, reason, ?error, "refused");
        proxy.shared.metrics.rejected(&listener.name, reason);
        None
    };
    let ip = socket.client.ip();
    if !listener.proxies.iter().any(|from| from.contains(&ip)) {
        return refuse("proxy_untrusted", None);
    }
    let limit = proxy.shared.limits.header_timeout;
    match tokio::time::timeout(limit, proxy_header::read(stream)).await {
        Ok(Ok(said)) => Some(said.unwrap_or(socket)),
        Ok(Err(error)) => refuse("proxy_malformed", Some(error)),
        Err(_) => refuse(Fault::ClientSlow.reason(), None),
    }
}

/// Takes TLS off; or says, for the access log, why the client's handshake came to nothing.
pub(super) async fn uncover(
    proxy: &Proxy,
    tls: &tls::Server,
    stream: TcpStream,
    client: SocketAddr,
) -> Result<Wire, &'static str> {
    let listener = &proxy.listener.name;
    let metrics = &proxy.shared.metrics;
    let Some(_place) = proxy.shared.handshakes.enter(client.ip()) else {
        let reason = Full::Handshakes.reason();
        proxy.refuse(&stream, reason);
        return Err(reason);
    };
    let limit = proxy.shared.limits.tls_handshake_timeout;
    match tls.accept(stream, limit).await {
        Ok(stream) => Ok(Wire::Tls(Box::new((*stream).into()))),
        Err(Failed::Gone) => Err("client_left"),
        Err(Failed::Slow) => {
            let reason = Fault::ClientSlow.reason();
            metrics.rejected(listener, reason);
            Err(reason)
        }
        Err(Failed::Refused(error, stream)) => {
            debug!(listener, %client, %error, "TLS handshake refused");
            let reason = "tls_handshake";
            metrics.rejected(listener, reason);
            close_gently(stream).await;
            Err(reason)
        }
    }
}

/// How the HTTP part of a connection ended.
enum End {
    Done(hyper::Result<()>),
    Expired(Expired),
}

type Connection = http1::Connection<TokioIo<PacedStream>, Handler>;

fn builder(proxy: &Proxy) -> http1::Builder {
    let limits = &proxy.shared.limits;
    let mut builder = http1::Builder::new();
    builder
        // `Pace` keeps this time, and can answer 408.
        .header_read_timeout(None)
        // Scripts end their half behind a request. Over TLS nobody does: an end
        // there is a client that has left.
        .half_close(proxy.tls.is_none())
        .preserve_header_case(true)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes);
    if limits.header_count != HYPERS_HEADERS {
        builder.max_headers(limits.header_count);
    }
    builder
}

/// Runs the connection against its clock and the daemon's end.
async fn drive(proxy: &Proxy, pace: &Pace, connection: &mut Connection) -> End {
    let mut draining = std::pin::pin!(proxy.shared.drain.watch(Stage::Draining));
    let mut drained = false;
    let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    std::future::poll_fn(|cx| {
        if !drained && draining.as_mut().poll(cx).is_ready() {
            drained = true;
            Pin::new(&mut *connection).graceful_shutdown();
        }
        match connection.poll_without_shutdown(cx) {
            // Another poll goes on writing; the blocked write wakes us.
            Poll::Ready(Ok(())) if pace.is_unflushed() => {}
            Poll::Ready(result) => return Poll::Ready(End::Done(result)),
            Poll::Pending => {}
        }
        loop {
            let Some((deadline, limit)) = pace.deadline() else {
                return Poll::Pending;
            };
            // A deadline that moves away is noticed when the old one rings.
            if alarm.is_elapsed() || deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(End::Expired(limit));
            }
        }
    })
    .await
}

/// Why hyper could not parse a head; what it would have answered is kept back.
fn unparsed(error: &hyper::Error, head: &Framing) -> Fault {
    if error.is_parse_version_h2() {
        Fault::Malformed("HTTP/2 is not spoken here")
    } else if !error.is_parse_too_large() {
        Fault::Malformed("the request is malformed")
    } else if head.request_line() > URI_MAX {
        Fault::UriTooLong
    } else {
        Fault::HeadersTooLarge
    }
}

/// Whether a head has begun behind the last request. What hyper has read of one that was sent
/// along with that request cannot be told from the request's own body, but once hyper is gone.
fn is_begun(unread: &[u8]) -> bool {
    // Empty lines in front of a head are allowed, and so behind a body.
    !unread.trim_ascii_start().is_empty()
}

/// Answers, in place of a request that could not be read, unless a word of ours would stand
/// in the midst of another answer.
async fn decline(proxy: &Arc<Proxy>, peer: &Peer, pace: &Pace, stream: Wire, fault: Fault) {
    proxy.count_fault(peer, fault);
    if pace.owes_nothing() {
        refuse(stream, fault, &proxy.listener.error_pages).await;
    } else {
        close_gently(stream).await;
    }
}

/// A client that reads nothing does not hold the connection.
async fn refuse(mut stream: Wire, fault: Fault, pages: &ErrorPages) {
    let answer = fault.raw(pages);
    let written = tokio::time::timeout(LINGER, stream.write_all(&answer)).await;
    if matches!(written, Ok(Ok(()))) {
        close_gently(stream).await;
    }
}

/// Ends our half, then reads a little: closing with unread bytes would be a
/// reset, and the client might never see the answer.
async fn close_gently(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let close = async {
        stream.shutdown().await?;
        let mut taken = stream.take(LINGER_BYTES as u64);
        tokio::io::copy(&mut taken, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, close).await;
}

/// Hands hyper's requests to the proxy.
struct Handler {
    proxy: Arc<Proxy>,
    peer: Arc<Peer>,
    pace: Arc<Pace>,
    /// From then on an answer is the last one.
    until: Instant,
}

impl Service<Request<Incoming>> for Handler {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (proxy, peer, pace) = (self.proxy.clone(), self.peer.clone(), self.pace.clone());
        let until = self.until;
        Box::pin(async move {
            let read = pace.head_read().check();
            let takes_trailers = headers::has_token(request.headers(), &TE, "trailers");
            let (head, body) = request.into_parts();
            let request = (head, Upload::http1(body, &pace));
            let mut response = proxy.handle(&peer, request, read).await;
            let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let now = Instant::now();
            if until <= now && !switched {
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if response.status().canonical_reason().is_none() {
                // Where it was given no other; hyper would write `<none>`.
                let none = || ReasonPhrase::from_static(b"");
                response.extensions_mut().get_or_insert_with(none);
            }
            if !takes_trailers {
                // hyper keeps them back (RFC 9110 section 6.5.1): nobody is to wait for them.
                response.headers_mut().remove(TRAILER);
            }
            response.body_mut().pace(pace.answering(now));
            Ok(response)
        })
    }
}
