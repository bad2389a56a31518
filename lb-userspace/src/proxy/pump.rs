//! One direction of a tunnel: bytes from one socket to the other, as they come.
//!
//! Nothing is held while idle: bytes pass through a scratch buffer of the
//! thread, and only what the receiver did not take is kept. Until that is gone
//! nothing more is read, so a slow receiver slows the sender.
//!
//! A direction that is *held* passes on what comes but leaves it in the socket's
//! receive queue: the sender's window fills, it stops, and nothing is lost.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use bytes::{Buf, Bytes};
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What one read can take; a whole GSO packet.
const SCRATCH: usize = 64 * 1024;
/// Reads in one go, before other connections of the thread get their turn.
pub(super) const ROUNDS: usize = 16;

/// More than the receive queue of a held sender holds: the buffer that the data plane
/// gives its socket is half of it.
const QUEUE_MOST: usize = 512 * 1024;

thread_local! {
    pub(super) static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
    static QUEUE: RefCell<Box<[u8]>> = RefCell::new(vec![0; QUEUE_MOST].into_boxed_slice());
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
    /// While held: bytes passed on that are still in the sender's receive queue.
    held: Option<usize>,
    /// Bytes may be there to be read that the runtime will not tell of.
    unsure: bool,
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
            held: None,
            unsure: false,
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

    /// From now on reads nothing that comes, though it is passed on.
    pub(super) fn hold(&mut self) {
        self.held = Some(0);
    }

    /// Bytes passed on that are still in the sender's receive queue.
    pub(super) fn ahead(&self) -> usize {
        self.held.unwrap_or(0)
    }

    /// Reads what was passed on, which opens the sender's window, and goes on as
    /// before the hold.
    pub(super) fn release(&mut self, from: &TcpStream) -> io::Result<()> {
        let mut left = self.held.take().unwrap_or(0);
        // A look at bytes that stay counts as having found none.
        self.unsure = true;
        BUFFER.with_borrow_mut(|buffer| {
            while left > 0 {
                let most = left.min(buffer.len());
                match receive(
                    from,
                    buffer.get_mut(..most).unwrap_or_default(),
                    MsgFlags::empty(),
                )? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => left -= count,
                }
            }
            Ok(())
        })
    }

    /// Moves what can be moved now. An error means that a side was reset.
    pub(super) fn step(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<Flow> {
        for _ in 0..ROUNDS {
            if !self.flush(to)? {
                return Ok(Flow::Blocked);
            }
            if let Some(ahead) = self.held {
                match pass_ahead(from, to, ahead)? {
                    Passed::Nothing => return Ok(Flow::Quiet),
                    Passed::Refused => return Ok(Flow::Blocked),
                    Passed::Bytes(count) => {
                        self.held = Some(ahead + count);
                        self.moved += count as u64;
                    }
                }
                continue;
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
        BUFFER.with_borrow_mut(|buffer| match self.read(from, buffer) {
            Ok(0) => {
                self.eof = true;
                Ok(true)
            }
            Ok(count) => {
                self.moved += count as u64;
                self.pass(buffer.get(..count).unwrap_or_default(), to)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsure = false;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        })
    }

    fn read(&self, from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        match self.unsure {
            true => receive(from, buffer, MsgFlags::empty()),
            false => from.try_read(buffer),
        }
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

/// What became of bytes that were looked at, but not read.
enum Passed {
    /// There were none that had not been passed on.
    Nothing,
    /// The receiver takes none at the moment.
    Refused,
    Bytes(usize),
}

/// Passes on what stands in the receive queue behind the first `ahead` bytes. The
/// end of the stream shows only when those are read.
fn pass_ahead(from: &TcpStream, to: &TcpStream, ahead: usize) -> io::Result<Passed> {
    QUEUE.with_borrow_mut(|buffer| {
        let peeked = from.try_io(Interest::READABLE, || {
            match receive(from, buffer, MsgFlags::MSG_PEEK)? {
                // Asks to be woken by what comes next.
                count if count <= ahead => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        });
        let count = match peeked {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Passed::Nothing),
            Err(error) => return Err(error),
        };
        let fresh = buffer.get(ahead..count).unwrap_or_default();
        Ok(written(to, fresh)?.map_or(Passed::Refused, Passed::Bytes))
    })
}

fn receive(from: &TcpStream, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    Ok(recv(
        from.as_raw_fd(),
        buffer,
        flags | MsgFlags::MSG_DONTWAIT,
    )?)
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
