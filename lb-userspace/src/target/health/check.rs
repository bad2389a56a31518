//! One health check of one target: HTTP, TCP or WebSocket, on a connection of its
//! own.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::failure::Failure;
use crate::config::{CheckProtocol, HealthCheck, ProxyProtocol, TargetProtocol};
use crate::proxy::proxy_header;

/// So that a target's log shows what these requests are.
const AGENT: &str = "limpet-health-check";
/// What the ping carries and the pong must bring back.
const PING: Bytes = Bytes::from_static(b"limpet");
/// Nothing of a check is large; the library's own buffers are 128 KiB.
const BUFFER: usize = 4 * 1024;

/// Checks once; takes as long as the target does. One that is not well because of what
/// the check begins with is told from others by being asked without.
pub(super) async fn check(
    address: SocketAddr,
    config: &HealthCheck,
    proxy_protocol: ProxyProtocol,
    protocol: &TargetProtocol,
) -> Result<(), Failure> {
    let result = once(address, config, proxy_protocol, protocol).await;
    let may_not_understand = result.as_ref().is_err_and(Failure::is_an_answer);
    if proxy_protocol != ProxyProtocol::Off
        && may_not_understand
        && once(address, config, ProxyProtocol::Off, protocol)
            .await
            .is_ok()
    {
        return Err(Failure::NoProxyProtocol);
    }
    result
}

async fn once(
    address: SocketAddr,
    config: &HealthCheck,
    proxy_protocol: ProxyProtocol,
    protocol: &TargetProtocol,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| {
        Failure::of_connect(error.kind()).unwrap_or(Failure::Unreachable(error.kind()))
    })?;
    introduce(&mut stream, proxy_protocol).await?;
    match (config.protocol, protocol) {
        (CheckProtocol::Tcp, _) => Ok(()),
        (CheckProtocol::Http, TargetProtocol::H2c) => http2(stream, address, config).await,
        (_, TargetProtocol::Http | TargetProtocol::H2c) => ask(stream, address, config).await,
        (_, TargetProtocol::Https(tls)) => {
            let stream = tls.connect(stream).await;
            let stream = stream.map_err(|error| Failure::Tls(error.to_string()))?;
            ask(stream, address, config).await
        }
    }
}

/// Asks what the check asks, over whatever carries it.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    config: &HealthCheck,
) -> Result<(), Failure> {
    match config.protocol {
        CheckProtocol::Tcp => Ok(()),
        CheckProtocol::Http => http(stream, address, config).await,
        CheckProtocol::Websocket => websocket(stream, address, config).await,
    }
}

/// Says who is asking, as the target expects of every connection.
async fn introduce(stream: &mut TcpStream, version: ProxyProtocol) -> Result<(), Failure> {
    let broken = |_| Failure::Malformed;
    let local = stream.local_addr().map_err(broken)?;
    let header = proxy_header::write(version, local, stream.peer_addr().map_err(broken)?);
    stream.write_all(&header).await.map_err(broken)
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    config: &HealthCheck,
) -> Result<(), Failure> {
    let broken = |_| Failure::Malformed;
    let request = Request::get(config.path.as_str())
        .header(HOST, address.to_string())
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::Malformed)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    // The head is enough: what comes after it is not read.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // It may have ended after the answer.
        _ = connection => answer.await,
    };
    judge(answer.map_err(broken)?.status(), config)
}

/// The same over HTTP/2.
async fn http2(
    stream: TcpStream,
    address: SocketAddr,
    config: &HealthCheck,
) -> Result<(), Failure> {
    let broken = |_| Failure::Malformed;
    let url = format!("http://{address}{}", config.path);
    let request = Request::get(url)
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::Malformed)?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    judge(answer.map_err(broken)?.status(), config)
}

fn judge(status: StatusCode, config: &HealthCheck) -> Result<(), Failure> {
    let status = status.as_u16();
    let good = config
        .success_codes
        .iter()
        .any(|codes| codes.contains(&status));
    if good {
        Ok(())
    } else {
        Err(Failure::Code(status))
    }
}

async fn websocket(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    config: &HealthCheck,
) -> Result<(), Failure> {
    let url = format!("ws://{address}{}", config.path);
    let mut request = url.into_client_request().map_err(|_| Failure::Malformed)?;
    let agent = http::HeaderValue::from_static(AGENT);
    request.headers_mut().insert(USER_AGENT, agent);
    let buffers = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER);
    let handshake = tokio_tungstenite::client_async_with_config(request, stream, Some(buffers));
    let (mut socket, _) = handshake.await.map_err(|error| match error {
        Error::Http(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Failure::Malformed
        }
        Error::Http(answer) => Failure::Code(answer.status().as_u16()),
        _ => Failure::NoUpgrade,
    })?;
    let ping = socket.send(Message::Ping(PING)).await;
    ping.map_err(|_| Failure::NoPong)?;
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Pong(payload) if payload == PING) {
            // The target may be gone by now; it has shown that it is well.
            let _ = socket.close(None).await;
            return Ok(());
        }
    }
    Err(Failure::NoPong)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
