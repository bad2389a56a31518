//! A stream that keeps small writes until everything that is to be said now has been
//! said. The library writes each frame of a body by itself; here the answers of many
//! streams take one write together.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusals::{Refusals, Scanner};

/// As much as TLS takes at once: four records.
const MOST: usize = 64 * 1024;
/// Room for one record at first.
const FIRST: usize = 16 * 1024;

/// Says when a batch begins and ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// There is more to come: writes and flushes wait.
    open: AtomicBool,
    /// Something was written meanwhile.
    waiting: AtomicBool,
    refusals: Refusals,
}

impl Batch {
    /// Runs `poll` until it has nothing more to write, and once more then so that it
    /// flushes. Both run in one task, so that nobody else sees the batch open.
    pub(super) fn poll<T>(&self, mut poll: impl FnMut() -> Poll<T>) -> Poll<T> {
        self.0.open.store(true, Ordering::Relaxed);
        let polled = poll();
        self.0.open.store(false, Ordering::Relaxed);
        if polled.is_pending() && self.0.waiting.swap(false, Ordering::Relaxed) {
            return poll();
        }
        polled
    }

    /// What is told by the frames that go through it.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// The stream under whoever is polled.
    pub(super) fn stream<S>(&self, stream: S) -> Batched<S> {
        Batched {
            stream,
            batch: self.clone(),
            scanner: Scanner::default(),
            kept: Vec::new(),
            written: 0,
        }
    }
}

/// A stream with a batch before it.
#[derive(Debug)]
pub(super) struct Batched<S> {
    stream: S,
    batch: Batch,
    scanner: Scanner,
    /// Allocated while there is something in it: an idle connection keeps no buffer.
    kept: Vec<u8>,
    /// Of `kept`.
    written: usize,
}

impl<S: AsyncWrite + Unpin> Batched<S> {
    /// Keeps the bytes, if they are few and more are to come.
    fn keep(&mut self, slices: &[io::IoSlice<'_>]) -> Option<usize> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let fits = self.kept.len() + length <= MOST;
        if !fits || !self.batch.0.open.load(Ordering::Relaxed) {
            return None;
        }
        self.batch.0.waiting.store(true, Ordering::Relaxed);
        if self.kept.capacity() == 0 {
            self.kept.reserve(FIRST);
        }
        for slice in slices {
            self.kept.extend_from_slice(slice);
        }
        Some(length)
    }

    /// Looks at the first `count` bytes, which are taken.
    fn scan(&mut self, slices: &[io::IoSlice<'_>], mut count: usize) {
        for slice in slices {
            let (taken, _) = slice.split_at(count.min(slice.len()));
            count -= taken.len();
            self.scanner.feed(taken, &self.batch.0.refusals);
        }
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kept) = self.keep(slices) {
            return Poll::Ready(Ok(kept));
        }
        ready!(self.poll_kept(cx))?;
        match self.keep(slices) {
            Some(kept) => Poll::Ready(Ok(kept)),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self
            .kept
            .get(self.written..)
            .filter(|left| !left.is_empty())
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        (self.kept, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Batched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.poll_take(cx, slices))?;
        self.scan(slices, count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.batch.0.open.load(Ordering::Relaxed) {
            self.batch.0.waiting.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_kept(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn noop() -> Context<'static> {
        Context::from_waker(std::task::Waker::noop())
    }

    /// Writes and flushes like the library: each frame by itself.
    fn write(stream: &mut Batched<impl AsyncWrite + Unpin>, frames: &[&[u8]]) -> Poll<()> {
        for frame in frames {
            let mut left = *frame;
            while !left.is_empty() {
                let count = ready!(Pin::new(&mut *stream).poll_write(&mut noop(), left));
                left = &left[count.expect("written")..];
            }
            ready!(Pin::new(&mut *stream).poll_flush(&mut noop())).expect("flushed");
        }
        Poll::Pending
    }

    #[tokio::test]
    async fn what_is_said_in_one_breath_goes_out_at_its_end() {
        let (near, mut far) = tokio::io::duplex(1000);
        let batch = Batch::default();
        let mut stream = batch.stream(near);
        let mut breaths = 0;
        let polled: Poll<()> = batch.poll(|| {
            breaths += 1;
            match breaths {
                1 => write(&mut stream, &[b"one ", b"two ", b"three"]),
                // Has nothing to say but flushes.
                _ => write(&mut stream, &[b""]),
            }
        });
        assert!(polled.is_pending());
        // Flushed, and nothing is kept.
        assert_eq!((breaths, stream.kept.capacity()), (2, 0));
        let mut got = [0; 13];
        let read = far.read(&mut got).now_or_never().expect("at once");
        assert_eq!((read.expect("read"), &got), (13, b"one two three"));
    }

    #[tokio::test]
    async fn order_is_kept_whatever_the_sizes_and_however_slow_the_reader() {
        let (near, mut far) = tokio::io::duplex(1000);
        let batch = Batch::default();
        let mut stream = batch.stream(near);
        let frames: Vec<Vec<u8>> = (0..100_usize)
            .map(|number| vec![number as u8; [1, 300, 17_000, MOST - 5, MOST + 1][number % 5]])
            .collect();
        let all = frames.concat();
        let length = all.len();
        let reading = tokio::spawn(async move {
            let mut got = vec![0; length];
            far.read_exact(&mut got).await.expect("read");
            got
        });
        for frames in frames.chunks(7) {
            let mut writing = Box::pin(async {
                for frame in frames {
                    stream.write_all(frame).await.expect("written");
                }
                stream.flush().await.expect("flushed");
            });
            let mut done = false;
            std::future::poll_fn(|cx| {
                let polled = batch.poll(|| {
                    if !done {
                        done = writing.as_mut().poll(cx).is_ready();
                    }
                    Poll::<()>::Pending
                });
                assert!(polled.is_pending());
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            drop(writing);
        }
        stream.flush().await.expect("flushed");
        assert!(reading.await.expect("no panic") == all);
    }

    #[tokio::test]
    async fn nothing_is_left_behind_at_the_end() {
        let (near, mut far) = tokio::io::duplex(1000);
        let batch = Batch::default();
        let mut stream = batch.stream(near);
        let polled = batch.poll(|| {
            let _ = write(&mut stream, &[b"goodbye"]);
            Pin::new(&mut stream).poll_shutdown(&mut noop())
        });
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"goodbye");
    }
}
