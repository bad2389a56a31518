//! A stream that has become a tunnel (RFC 8441 section 5): bytes both ways, with the
//! ends and resets that TCP would have.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is copied for the client at a time.
const CHUNK: usize = 16 * 1024;

/// The client's side of a tunnel. Dropped before both halves have ended, it resets
/// the stream.
#[derive(Debug)]
pub(in crate::proxy) struct Socket {
    from_client: RecvStream,
    to_client: SendStream<Bytes>,
    /// Read from the stream, and not yet by whoever reads here.
    unread: Bytes,
    ended: bool,
}

impl Socket {
    pub(in crate::proxy) fn new(from_client: RecvStream, to_client: SendStream<Bytes>) -> Self {
        Self {
            from_client,
            to_client,
            unread: Bytes::new(),
            ended: false,
        }
    }

    /// Tells the client what a reset tells over TCP.
    pub(in crate::proxy) fn reset(&mut self) {
        self.to_client.send_reset(Reason::CANCEL);
    }

    /// Ends our half.
    pub(in crate::proxy) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // The stream is gone if that fails, and so has ended too.
            let _ = self.to_client.send_data(Bytes::new(), true);
        }
    }
}

/// Whatever broke the stream, it is a reset to the other side.
fn reset(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.from_client.poll_data(cx)) {
                Some(bytes) => this.unread = bytes.map_err(reset)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread.split_to(count));
        let released = this.from_client.flow_control().release_capacity(count);
        Poll::Ready(released.map_err(reset))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut self.get_mut().to_client;
        let wanted = bytes.len().min(CHUNK);
        stream.reserve_capacity(wanted);
        let room = match stream.capacity() {
            0 => match ready!(stream.poll_capacity(cx)) {
                Some(room) => room.map_err(reset)?,
                None => return Poll::Ready(Err(reset("the stream is closed"))),
            },
            room => room,
        };
        let count = room.min(wanted);
        stream
            .send_data(bytes.copy_to_bytes(count), false)
            .map_err(reset)?;
        Poll::Ready(Ok(count))
    }

    /// The connection's own task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().end();
        Poll::Ready(Ok(()))
    }
}
