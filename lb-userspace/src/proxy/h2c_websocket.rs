//! A WebSocket's handshake with a target that speaks HTTP/2 in the clear (RFC 8441): an
//! extended CONNECT on a connection of its own, as over HTTP/1.1, so that a WebSocket that
//! stands still holds up nobody else.

use h2::client::Builder;
use h2::ext::Protocol;
use h2::{Ping, RecvStream};
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Request, Response, Version, request, response};
use tracing::debug;

use super::fault::Fault;
use super::h2c;
use super::http2::Socket;
use super::wire::Wire;
use crate::target::Target;

/// What a target may send before the client takes it.
const WINDOW: u32 = 256 * 1024;
/// What waits for the target to take it.
const SEND_BUFFER: usize = 32 * 1024;

/// What the target has answered.
pub(super) enum Answer {
    /// A success: the stream is the WebSocket.
    Opened(response::Parts, Box<Socket>),
    Refused(Response<RecvStream>),
}

/// Asks on a fresh connection.
pub(super) async fn ask(
    stream: Wire,
    head: &request::Parts,
    target: &Target,
) -> Result<Answer, Fault> {
    let request = arrange(head, target).map_err(|_| Fault::Malformed("Host is malformed"))?;
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false);
    let (mut sender, mut connection) = builder.handshake(stream).await.map_err(broken)?;
    let pings = connection.ping_pong();
    // It ends by itself when the stream has.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "HTTP/2 connection of a WebSocket broken");
        }
    });
    // Its settings come before anything else (RFC 9113 section 3.4).
    if let Some(mut pings) = pings {
        pings.ping(Ping::opaque()).await.map_err(broken)?;
    }
    if !sender.is_extended_connect_protocol_enabled() {
        return Err(Fault::NotImplemented("there is no WebSocket here"));
    }
    let (response, to_target) = sender.send_request(request, false).map_err(broken)?;
    let response = response.await.map_err(broken)?;
    if !response.status().is_success() {
        return Ok(Answer::Refused(response));
    }
    let (head, from_target) = response.into_parts();
    let socket = Socket::new(from_target, to_target);
    Ok(Answer::Opened(head, Box::new(socket)))
}

fn broken(error: h2::Error) -> Fault {
    debug!(%error, "a WebSocket was not opened");
    match error.is_io() {
        true => Fault::TargetUnreachable,
        false => Fault::TargetMalformed,
    }
}

/// Says as HTTP/2 does what a handshake of RFC 6455 says (RFC 8441 section 5).
fn arrange(head: &request::Parts, target: &Target) -> Result<Request<()>, http::Error> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(h2c::absolute(head, target)?)
        .extension(Protocol::from_static("websocket"));
    let mut request = request.body(())?;
    *request.headers_mut() = head.headers.clone();
    for name in [HOST, CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY] {
        request.headers_mut().remove(name);
    }
    Ok(request)
}
