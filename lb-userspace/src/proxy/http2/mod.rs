//! One client's HTTP/2 connection (RFC 9113): its streams, in one task with it, its
//! limits, and its end. A stream's request goes the same way as any other.
//!
//! In travel order: `request` (what the version writes differently), `exchange` (one
//! stream), `upload` and `socket` (what a stream carries). `conduct` and `keeper` know
//! when enough is enough; `batch` writes, `refusals` reads what of it is the library's own
//! answer, `gentle` closes.

mod batch;
mod conduct;
mod exchange;
mod gentle;
mod keeper;
mod refusals;
mod request;
mod socket;
mod upload;

#[cfg(test)]
mod flood_tests;
#[cfg(test)]
pub(super) mod lab;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod websocket_tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::{Builder, Connection, SendResponse};
use tokio::time::{sleep, timeout};
use tracing::debug;

pub(super) use socket::Socket;
pub(super) use upload::Upload;

use self::batch::{Batch, Batched};
use self::conduct::Conduct;
use self::gentle::Gentle;
use self::keeper::Lapse;
use self::refusals::{Refusal, Refusals};
use super::Proxy;
use super::connection::Peer;
use super::dial::Caller;
use super::fault::Fault;
use super::headers::Told;
use super::last_seal::LastSeal;
use super::wire::Wire;
use crate::access::Record;
use crate::drain::Stage;
use crate::metrics::Origin;
use crate::room::Full;

/// Requests at a time (ALB).
const STREAMS: u32 = 128;
/// What a client may send of one body before its target takes it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// And of all of them.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of an answer waits for the client, a stream: a client that opens all streams
/// and reads nothing must not cost much.
const SEND_BUFFER: usize = 32 * 1024;
/// Requests taken back before they were even looked at (Rapid Reset, CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that had to be reset because of what the client did on them
/// (MadeYouReset, CVE-2025-8671), in the life of a connection.
const ERROR_RESETS: usize = 256;
/// What small pieces of bodies may cost that wait for their targets, at about 256 bytes
/// a piece. The library's half of the window is less than honest clients of streams
/// send in one breath.
const PIECES: usize = 4 * 1024 * 1024;
/// What no honest client sends, in `rejected_total`.
const FLOOD: &str = "http2_flood";
/// What HTTP/2 does not allow.
const MALFORMED: Fault = Fault::Malformed("HTTP/2 is malformed");
/// How long a connection that is over may take to end.
const LEAVE: Duration = Duration::from_secs(2);

/// One connection, as its streams see it.
#[derive(Debug)]
struct Client {
    proxy: Arc<Proxy>,
    caller: Caller,
    told: Told,
    last_seal: Arc<LastSeal>,
    conduct: Arc<Conduct>,
}

impl Client {
    /// Of one of its streams.
    fn peer(&self) -> Peer {
        Peer::new(self.caller, self.told.clone(), self.last_seal.clone())
    }
}

type Http2 = Connection<Batched<Gentle>, Bytes>;

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client has left, or has been sent away by the library.
    Gone,
    Lapsed(Lapse),
    /// It takes back most of what it asks for.
    Flooded,
}

/// Serves a client whose TLS handshake chose HTTP/2.
pub(super) async fn serve(proxy: Arc<Proxy>, stream: Wire, caller: Caller, told: Told) {
    let batch = Batch::default();
    // No sooner than its clock would find it dead.
    let stream = Gentle::new(stream, proxy.listener.idle_timeout.saturating_mul(2));
    let handshake = builder(&proxy).handshake(batch.stream(stream));
    let mut connection = match timeout(proxy.shared.limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return complain(&proxy, caller, &error),
        Err(_) => return turn_away(&proxy, caller, Fault::ClientSlow.reason()),
    };
    let client = Arc::new(Client {
        proxy: proxy.clone(),
        caller,
        told,
        last_seal: Arc::default(),
        conduct: Conduct::new(),
    });
    let end = drive(&client, &mut connection, &batch).await;
    debug!(listener = proxy.listener.name, client = %caller.said.client, ?end, "HTTP/2 connection ends");
    match end {
        End::Gone => return,
        End::Lapsed(Lapse::Idle) => connection.graceful_shutdown(),
        End::Lapsed(Lapse::Dead) => connection.abrupt_shutdown(Reason::NO_ERROR),
        End::Flooded => {
            turn_away(&proxy, caller, FLOOD);
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }
    // What is asked for now is not begun any more.
    let leave = async { while let Some(Ok(_)) = connection.accept().await {} };
    let _ = timeout(LEAVE, leave).await;
}

fn builder(proxy: &Proxy) -> Builder {
    let mut builder = Builder::new();
    // The library's own 431 is bare and uncounted; below this the answer is ours.
    let header_bytes = u32::try_from(proxy.shared.limits.header_bytes.saturating_mul(2));
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(header_bytes.unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .data_frame_budget(PIECES)
        .enable_connect_protocol();
    builder
}

/// Runs the connection against its clock, its client's conduct and the daemon's end.
async fn drive(client: &Arc<Client>, connection: &mut Http2, batch: &Batch) -> End {
    let conduct = &client.conduct;
    let idle_timeout = client.proxy.listener.idle_timeout;
    let mut leaving = false;
    let until = sleep(client.proxy.shared.limits.connection_lifetime);
    let lapse = keeper::watch(conduct, connection.ping_pong(), idle_timeout);
    let draining = client.proxy.shared.drain.watch(Stage::Draining);
    tokio::pin!(lapse, until, draining);
    // In one task with their connection, so that what several have to say at once goes
    // out with one write.
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = conduct.flooded() => return End::Flooded,
            Some(()) = streams.next() => {}
            accepted = poll_fn(|cx| {
                let accepted = batch.poll(|| connection.poll_accept(cx));
                report(client, batch.refusals());
                accepted
            }) => match accepted {
                Some(Ok(stream)) => {
                    batch.refusals().accepted(stream.1.stream_id().as_u32());
                    match conduct.begin(&client.proxy.shared.streams) {
                        Ok(open) => streams.push(exchange::run(client.clone(), stream, open)),
                        Err(full) => refuse(client, stream.1, full),
                    }
                }
                Some(Err(error)) => {
                    complain(&client.proxy, client.caller, &error);
                    return End::Gone;
                }
                None => return End::Gone,
            },
            () = &mut draining, if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            // Streams that are open go on to their end.
            () = &mut until, if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            lapse = &mut lapse => return End::Lapsed(lapse),
        }
    }
}

/// Books what the library has refused by itself.
fn report(client: &Client, refusals: &Refusals) {
    for refusal in refusals.take() {
        match refusal {
            Refusal::TooLarge => {
                let peer = client.peer();
                client.proxy.count_fault(&peer, Fault::HeadersTooLarge);
            }
            Refusal::Malformed => turn_away(&client.proxy, client.caller, MALFORMED.reason()),
            Refusal::TooMany => turn_away(&client.proxy, client.caller, "http2_streams"),
        }
    }
}

/// The library has found the client at fault, or lost it.
fn complain(proxy: &Proxy, caller: Caller, error: &h2::Error) {
    debug!(listener = proxy.listener.name, client = %caller.said.client, %error, "HTTP/2 connection broken");
    match error.reason() {
        _ if !error.is_library() => {}
        Some(Reason::ENHANCE_YOUR_CALM) => turn_away(proxy, caller, FLOOD),
        _ => turn_away(proxy, caller, MALFORMED.reason()),
    }
}

/// There is no room for a stream. Nothing was done with it, so that it may be asked for
/// again (RFC 9113 section 8.7).
fn refuse(client: &Client, mut respond: SendResponse<Bytes>, full: Full) {
    respond.send_reset(Reason::REFUSED_STREAM);
    turn_away(&client.proxy, client.caller, full.reason());
}

/// Books what is refused with a frame, in the place of an answer.
fn turn_away(proxy: &Proxy, caller: Caller, reason: &'static str) {
    proxy.shared.metrics.rejected(&proxy.listener.name, reason);
    // Written as it is dropped.
    drop(proxy.shared.access.open(|| Record {
        origin: Some(Origin::Balancer.as_str()),
        fault: Some(reason),
        cause: "refused",
        ..Record::new("http", &proxy.listener.name, caller.said.client)
    }));
}
