//! One direction of a tunnel: bytes from one socket to the other, as they come.
//!
//! Nothing is held while idle: bytes pass through a scratch buffer of the
//! thread, and only what the receiver did not take is kept. Until that is gone
//! nothing more is read, so a slow receiver slows the sender.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::net::TcpStream;

/// What one read can take; a whole GSO packet.
const SCRATCH: usize = 64 * 1024;
/// Reads in one go, before other connections of the thread get their turn.
pub(super) const ROUNDS: usize = 16;

thread_local! {
    pub(super) static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// How a direction stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nothing to read; nothing kept.
    Quiet,
    /// The receiver takes nothing at the moment.
    Blocked,
    /// There may be more; others first.
    More,
    /// The sender has ended and the receiver has been told.
    Ended,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pump {
    kept: Bytes,
    eof: bool,
    ended: bool,
    moved: u64,
}

impl Pump {
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

    /// Moves what can be moved now. An error means that a side was reset.
    pub(super) fn step(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<Flow> {
        for _ in 0..ROUNDS {
            if !self.flush(to)? {
                return Ok(Flow::Blocked);
            }
            if self.eof {
                self.end(to)?;
                return Ok(Flow::Ended);
            }
            if !self.fill(from, to)? {
                return Ok(Flow::Quiet);
            }
        }
        Ok(Flow::More)
    }

    /// Writes what is kept; false if the receiver does not take all of it.
    fn flush(&mut self, to: &TcpStream) -> io::Result<bool> {
        while !self.kept.is_empty() {
            match written(to, &self.kept)? {
                Some(count) => self.kept.advance(count),
                None => return Ok(false),
            }
        }
        // Lets go of the buffer that held the bytes.
        self.kept = Bytes::new();
        Ok(true)
    }

    /// Reads once and passes it on; false if there was nothing to read.
    fn fill(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
        BUFFER.with_borrow_mut(|buffer| match from.try_read(buffer) {
            Ok(0) => {
                self.eof = true;
                Ok(true)
            }
            Ok(count) => {
                self.moved += count as u64;
                self.pass(buffer.get(..count).unwrap_or_default(), to)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        })
    }

    fn pass(&mut self, bytes: &[u8], to: &TcpStream) -> io::Result<()> {
        let count = written(to, bytes)?.unwrap_or(0);
        let rest = bytes.get(count..).unwrap_or_default();
        if !rest.is_empty() {
            self.kept = Bytes::copy_from_slice(rest);
        }
        Ok(())
    }

    fn end(&mut self, to: &TcpStream) -> io::Result<()> {
        if !self.ended {
            SockRef::from(to).shutdown(Shutdown::Write)?;
            self.ended = true;
        }
        Ok(())
    }
}

/// Bytes that were taken; `None` if none can be now.
fn written(to: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    match to.try_write(bytes) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}
