//! A client's stream that is closed gently: what the client was still sending is read
//! for a moment, because closing with unread bytes would be a reset, and the client
//! might never see the GOAWAY that tells it why.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::proxy::connection::{LINGER, LINGER_BYTES};
use crate::proxy::wire::Wire;

/// The stream under an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Gentle {
    stream: Wire,
    lingering: Option<Lingering>,
}

/// Our half is closed.
#[derive(Debug)]
struct Lingering {
    until: Pin<Box<Sleep>>,
    /// Bytes that may still be read.
    left: usize,
}

impl Gentle {
    /// A client that takes nothing for `silence` is lost, also after the end.
    pub(super) fn new(stream: Wire, silence: Duration) -> Self {
        stream.keep_no_longer_than(silence);
        Self {
            stream,
            lingering: None,
        }
    }
}

impl AsyncRead for Gentle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gentle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends our half, then waits for the client to have read it, for a while.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, lingering } = self.get_mut();
        if lingering.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        lingering
            .get_or_insert_with(|| Lingering {
                until: Box::pin(sleep(LINGER)),
                left: LINGER_BYTES,
            })
            .poll(cx, stream)
            .map(Ok)
    }
}

impl Lingering {
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Wire) -> Poll<()> {
        let mut buffer = [0; 4096];
        while self.left > 0 && self.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}
