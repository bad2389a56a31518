//! One direction of a tunnel with TLS at one end: as `pump`, but polled, because
//! TLS keeps bytes of its own, to be flushed and to be read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pump::{BUFFER, ROUNDS};

/// One direction.
#[derive(Debug)]
pub(super) struct TlsPump {
    kept: Bytes,
    eof: bool,
    ended: bool,
    moved: u64,
}

impl TlsPump {
    /// Begins with bytes that were read before the tunnel was open.
    pub(super) fn new(kept: Bytes) -> Self {
        let moved = kept.len() as u64;
        Self {
            kept,
            eof: false,
            ended: false,
            moved,
        }
    }

    /// Bytes taken from the sender.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// The sender has ended its half.
    pub(super) fn eof(&self) -> bool {
        self.eof
    }

    /// Moves what can be moved now. Ready when the sender has ended and the
    /// receiver has been told, or with the error of a side that was reset.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            ready!(self.poll_write_kept(cx, to))?;
            if self.eof {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            if self.poll_pass(cx, from, to)?.is_pending() {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            }
        }
        // There may be more; others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write_kept(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.kept))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.kept.advance(count),
            }
        }
        // Lets go of the buffer that held the bytes.
        self.kept = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Reads once and passes it on; what the receiver does not take is kept.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            self.eof = bytes.is_empty();
            self.moved += bytes.len() as u64;
            if self.eof {
                return Poll::Ready(Ok(()));
            }
            let count = match Pin::new(to).poll_write(cx, bytes)? {
                Poll::Ready(count) => count,
                Poll::Pending => 0,
            };
            self.kept = Bytes::copy_from_slice(bytes.get(count..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_receiver_buffers_is_flushed_before_waiting() {
        let (mut sender, mut from) = tokio::io::duplex(64);
        let (to, mut receiver) = tokio::io::duplex(4);
        let mut to = BufWriter::new(to);
        let mut pump = TlsPump::new(Bytes::from_static(b"early "));
        let pumping = poll_fn(|cx| pump.poll(cx, &mut from, &mut to));
        let talking = async {
            sender.write_all(b"late").await.expect("written");
            let mut bytes = [0; 10];
            receiver.read_exact(&mut bytes).await.expect("all of it");
            assert_eq!(&bytes, b"early late");
            drop(sender);
            assert_eq!(receiver.read(&mut bytes).await.expect("an end"), 0);
        };
        let both = async { tokio::join!(pumping, talking).0 };
        let ended = tokio::time::timeout(Duration::from_secs(1), both).await;
        ended.expect("no standstill").expect("no reset");
        assert_eq!(pump.moved(), 10);
    }
}
