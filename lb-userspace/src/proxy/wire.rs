//! A stream of bytes in the clear, from a client or a target: its socket, TLS on its
//! socket, or a stream of a client's HTTP/2 connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tracing::debug;

use super::http2;
use super::tunnel::reset_when_dropped;
use crate::config::TargetProtocol;
use crate::tls;

/// Bytes from and to a peer, in the clear.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Http2(Box<http2::Socket>),
}

/// What carries a group's requests to a target that has been connected to. The error
/// is `InvalidData` if the target is not who it should be.
pub(super) async fn to_target(
    stream: TcpStream,
    protocol: &TargetProtocol,
    limit: Duration,
) -> io::Result<Wire> {
    match protocol {
        TargetProtocol::Http | TargetProtocol::H2c => Ok(Wire::Tcp(stream)),
        // Boxed: a handshake takes far more room than what comes after it.
        TargetProtocol::Https(tls) => Box::pin(secure(stream, tls, limit)).await,
    }
}

/// Shakes hands with a target.
pub(super) async fn secure(
    stream: TcpStream,
    tls: &tls::Client,
    limit: Duration,
) -> io::Result<Wire> {
    let stream = timeout(limit, tls.connect(stream)).await??;
    Ok(Wire::Tls(Box::new(stream.into())))
}

impl Wire {
    /// Whether a client's handshake has chosen HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2.as_bytes()),
            Self::Tcp(_) | Self::Http2(_) => false,
        }
    }

    /// Of the certificate that it has shown, which was verified.
    pub(super) fn subject(&self) -> Option<HeaderValue> {
        match self {
            Self::Tls(stream) => tls::subject(stream.get_ref().1.peer_certificates()?.first()?),
            Self::Tcp(_) | Self::Http2(_) => None,
        }
    }

    /// Makes a reset of what would be an end.
    pub(super) fn reset_when_dropped(&mut self) {
        match self {
            Self::Tcp(socket) => reset_when_dropped(socket),
            Self::Tls(stream) => reset_when_dropped(stream.get_ref().0),
            Self::Http2(stream) => stream.reset(),
        }
    }

    /// Bounds how long the kernel keeps what the client does not take: an end waits behind
    /// that, with nobody here to look after it.
    pub(super) fn keep_no_longer_than(&self, limit: Duration) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Http2(_) => return,
        };
        if let Err(error) = SockRef::from(socket).set_tcp_user_timeout(Some(limit)) {
            debug!(%error, "an end could not be bounded");
        }
    }

    /// Ends in order what is above TCP, in one try: a client that takes nothing is
    /// not waited for.
    pub(super) async fn take_leave(&mut self) {
        match self {
            Self::Tcp(_) => {}
            Self::Tls(stream) => {
                poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_shutdown(cx).is_ready()))
                    .await;
            }
            Self::Http2(stream) => stream.end(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => match Pin::new(stream).poll_read(cx, buffer) {
                // A FIN without close_notify is common, and an end all the same:
                // HTTP and WebSocket show by themselves what was cut short.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                result => result,
            },
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Http2(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Http2(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Ends our half; over TLS with a close_notify before the FIN.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
