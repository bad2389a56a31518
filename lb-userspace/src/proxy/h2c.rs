//! Requests to targets that speak HTTP/2 in the clear, known beforehand (RFC 9113
//! section 3.3): gRPC above all. Their connections are shared; another is opened when a
//! target allows no more streams on those there are.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::header::{HOST, HeaderValue, TE};
use http::uri::Authority;
use http::{Request, Response, Uri, Version, request};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::body::Parcel;
use super::headers;
use crate::target::Target;

/// A connection without streams is kept that long.
const IDLE: Duration = Duration::from_secs(60);
/// A target that acknowledges nothing for that long is gone, with its streams. TCP asks,
/// not a PING: gRPC servers end connections that ping more than every few minutes.
const SILENCE: Duration = Duration::from_secs(30);

/// What runs a connection; `None` once it has ended.
type Driver = Arc<Mutex<Option<Connection<TokioIo<TcpStream>, Parcel, TokioExecutor>>>>;

/// The connections to all such targets.
#[derive(Debug, Default)]
pub(super) struct Shared {
    targets: Mutex<HashMap<SocketAddr, Arc<tokio::sync::Mutex<Kept>>>>,
}

/// Those to one target.
#[derive(Debug, Default)]
struct Kept {
    connections: Vec<Kin>,
    /// When connecting last failed, and how: who waited for it need not try again.
    failed: Option<(Instant, io::ErrorKind)>,
}

/// One connection.
#[derive(Debug, Clone)]
struct Kin {
    sender: SendRequest<Parcel>,
    driver: Driver,
    streams: Streams,
}

/// Held by each stream of a connection, until its answer is whole.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Mutex<Instant>>);

/// Why there is no answer.
pub(super) enum Failure {
    Connect(io::Error),
    Broken(hyper::Error),
}

impl Shared {
    /// Sends a request over a connection that has room for it; what is returned with
    /// the answer is to be held as long as its body.
    pub(super) async fn request(
        &self,
        target: SocketAddr,
        mut request: Request<Parcel>,
        limit: Duration,
    ) -> Result<(Response<Incoming>, Streams), Failure> {
        loop {
            let reserved = self.reserve(target, limit).await;
            let (mut kin, fresh) = reserved.map_err(Failure::Connect)?;
            match kin.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, kin.streams)),
                Err(mut error) => match error.take_message() {
                    // It was closed before it took the request; a fresh one was not.
                    Some(unsent) if !fresh => request = unsent,
                    Some(_) | None => return Err(Failure::Broken(error.into_error())),
                },
            }
        }
    }

    /// A connection with room for a stream, and whether it is new.
    async fn reserve(&self, target: SocketAddr, limit: Duration) -> io::Result<(Kin, bool)> {
        let asked = Instant::now();
        let kept = self.lock().entry(target).or_default().clone();
        let mut kept = kept.lock().await;
        if let Some((_, kind)) = kept.failed.filter(|(at, _)| *at >= asked) {
            return Err(kind.into());
        }
        kept.connections.retain(|kin| !kin.sender.is_closed());
        if let Some(kin) = kept.connections.iter().find(|kin| kin.has_room()) {
            kin.streams.used();
            return Ok((kin.clone(), false));
        }
        match connect(target, limit).await {
            Ok(kin) => {
                kept.connections.push(kin.clone());
                Ok((kin, true))
            }
            Err(error) => {
                kept.failed = Some((Instant::now(), error.kind()));
                Err(error)
            }
        }
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<tokio::sync::Mutex<Kept>>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kin {
    fn has_room(&self) -> bool {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let most = driver.as_ref().map(Connection::current_max_send_streams);
        most.is_some_and(|most| self.streams.count() < most)
    }
}

impl Streams {
    /// How many there are: all but what the driver and the list of connections hold.
    fn count(&self) -> usize {
        Arc::strong_count(&self.0).saturating_sub(2)
    }

    fn used(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }
}

async fn connect(target: SocketAddr, limit: Duration) -> io::Result<Kin> {
    let connect = async {
        let stream = TcpStream::connect(target).await?;
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        socket.set_tcp_user_timeout(Some(SILENCE))?;
        let keepalive = TcpKeepalive::new().with_time(SILENCE / 2);
        socket.set_tcp_keepalive(&keepalive.with_interval(SILENCE / 6))?;
        let builder = Builder::new(TokioExecutor::new());
        let handshake = builder.handshake(TokioIo::new(stream));
        handshake.await.map_err(io::Error::other)
    };
    let (sender, connection) = timeout(limit, connect).await??;
    let driver = Arc::new(Mutex::new(Some(connection)));
    let streams = Streams(Arc::new(Mutex::new(Instant::now())));
    tokio::spawn(drive(driver.clone(), streams.clone(), target));
    Ok(Kin {
        sender,
        driver,
        streams,
    })
}

/// Runs a connection until it ends, or nobody has needed it for long.
async fn drive(driver: Driver, streams: Streams, target: SocketAddr) {
    let unneeded = async {
        while streams.count() > 0 || streams.idle() < IDLE {
            sleep(IDLE).await;
        }
    };
    let lock = || driver.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = poll_fn(|cx| match lock().as_mut() {
        Some(connection) => Pin::new(connection).poll(cx),
        None => Poll::Ready(Ok(())),
    });
    tokio::select! {
        ended = ended => {
            if let Err(error) = ended {
                debug!(%target, %error, "HTTP/2 connection to a target broken");
            }
        }
        () = unneeded => {}
    }
    *lock() = None;
}

/// The client takes trailers, which gRPC insists on; it says so to one hop only.
#[derive(Debug, Clone, Copy)]
struct TakesTrailers;

/// Keeps in mind what is removed with the rest that is meant for one hop.
pub(super) fn note_trailers(head: &mut request::Parts) {
    if headers::has_token(&head.headers, &TE, "trailers") {
        head.extensions.insert(TakesTrailers);
    }
}

/// Writes a request as HTTP/2 does: its host is the `:authority`.
pub(super) fn arrange(
    head: &request::Parts,
    target: &Target,
    parcel: Parcel,
) -> Result<Request<Parcel>, http::Error> {
    let mut head = head.clone();
    head.uri = absolute(&head, target)?;
    head.headers.remove(HOST);
    if head.extensions.remove::<TakesTrailers>().is_some() {
        head.headers
            .insert(TE, HeaderValue::from_static("trailers"));
    }
    head.version = Version::HTTP_2;
    Ok(Request::from_parts(head, parcel))
}

/// What a request is for, with its host, or the target where it names none.
pub(super) fn absolute(head: &request::Parts, target: &Target) -> Result<Uri, http::Error> {
    let host = head.headers.get(HOST);
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").path_and_query(path);
    match host {
        Some(host) => uri.authority(host).build(),
        None => uri.authority(target.label.as_str()).build(),
    }
}
