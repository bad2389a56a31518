//! Lines on their way out of the daemon: its log and the access log.
//!
//! They go through a queue, bounded in bytes, to a thread of their own. When that is
//! behind, lines are dropped and counted; who has something to say never waits.

mod held;
mod writer;

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use prometheus::IntCounter;

use crate::config::AccessTo;
use held::Held;
use writer::{Order, Writer};

/// How long the end of the daemon waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// What lines are for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// As the log calls them.
    pub(crate) what: &'static str,
    /// The name of the thread.
    pub(crate) thread: &'static str,
    /// As many bytes may wait to be written.
    pub(crate) bytes: usize,
}

/// The way to the thread; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    orders: Sender<Order>,
    held: Held,
    lost: IntCounter,
}

impl Lines {
    /// Opens what is written to and starts the thread; `None` if nothing is written.
    /// `lost` counts lines not written.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub(crate) fn start(
        purpose: Purpose,
        to: &AccessTo,
        lost: &IntCounter,
    ) -> io::Result<Option<Self>> {
        let (lines, orders) = Self::queue(purpose.bytes, lost);
        let opened = Writer::open(purpose.what, to, lines.held.clone(), lost.clone())?;
        let Some(writer) = opened else {
            return Ok(None);
        };
        std::thread::Builder::new()
            .name(purpose.thread.to_owned())
            .spawn(move || writer.run(&orders))?;
        Ok(Some(lines))
    }

    fn queue(bytes: usize, lost: &IntCounter) -> (Self, Receiver<Order>) {
        let (orders, receiver) = mpsc::channel();
        let lines = Self {
            orders,
            held: Held::up_to(bytes),
            lost: lost.clone(),
        };
        (lines, receiver)
    }

    /// Has a line written, which has its end already.
    pub(crate) fn write(&self, line: String) {
        if !self.held.take(&line) || self.orders.send(Order::Line(line)).is_err() {
            self.lost.inc();
        }
    }

    /// Begins a new file, after the old one has been renamed.
    pub(crate) fn reopen(&self) {
        // In vain if the thread has panicked.
        let _ = self.orders.send(Order::Reopen);
    }

    /// Waits a little for what has been said to be written.
    pub(crate) fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.orders.send(Order::Flush(done)).is_ok() {
            // In vain if the disk or the pipe takes nothing any more.
            let _ = written.recv_timeout(FLUSH);
        }
    }

    /// One whose lines nobody writes, and what would be written.
    #[cfg(test)]
    pub(crate) fn unread(bytes: usize, lost: &IntCounter) -> (Self, impl Iterator<Item = String>) {
        let (lines, orders) = Self::queue(bytes, lost);
        let written = std::iter::from_fn(move || match orders.try_recv() {
            Ok(Order::Line(line)) => Some(line),
            Ok(Order::Reopen | Order::Flush(_)) | Err(_) => None,
        });
        (lines, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_waits_is_bounded_in_bytes_whatever_its_lines() {
        const MOST: usize = 1 << 20;
        for length in [1, 100, 200_000] {
            let lost = IntCounter::new("lost", "lines").expect("a counter");
            let (lines, written) = Lines::unread(MOST, &lost);
            for _ in 0..20_000 {
                lines.write("x".repeat(length));
            }
            let held: Vec<String> = written.collect();
            let bytes: usize = held.iter().map(String::capacity).sum();
            assert!(bytes <= MOST, "{bytes} bytes of lines of {length}");
            assert!(held.len() > 4, "{} lines of {length}", held.len());
            assert!(held.len() < 17_000, "their places take memory too");
            assert_eq!(held.len() as u64 + lost.get(), 20_000);
        }
    }

    #[test]
    fn what_has_been_written_makes_room() {
        let scratch = Scratch::new("lines");
        let lost = IntCounter::new("lost", "lines").expect("a counter");
        let purpose = Purpose {
            what: "the test",
            thread: "limpet-test",
            bytes: 1000,
        };
        let to = AccessTo::File(scratch.path("log"));
        let lines = Lines::start(purpose, &to, &lost)
            .expect("opened")
            .expect("something is written");
        for _ in 0..100 {
            lines.write("x".repeat(900));
            lines.flush();
        }
        assert_eq!(lost.get(), 0);
    }
}
