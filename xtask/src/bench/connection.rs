//! One non-blocking connection with what it still has to send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::Result;

use super::poller::{Interest, Poller};

/// Holds the largest message at once.
pub(super) const BUFFER: usize = 64 * 1024;

pub(super) struct Connection {
    stream: TcpStream,
    number: usize,
    unsent: Vec<u8>,
    interest: Interest,
}

impl Connection {
    /// Takes over a connected stream and registers it under a number.
    pub(super) fn new(stream: TcpStream, number: usize, poller: &Poller) -> Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        poller.add(&stream, number)?;
        Ok(Self {
            stream,
            number,
            unsent: Vec::new(),
            interest: Interest::Read,
        })
    }

    /// What has arrived; `None` when nothing has, an empty slice at the end.
    pub(super) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        match self.stream.read(buffer) {
            Ok(count) => Ok(buffer.get(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what can be sent now and keeps the rest.
    pub(super) fn send(&mut self, bytes: &[u8], poller: &Poller) -> Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = self.write(bytes)?;
        self.unsent
            .extend_from_slice(bytes.get(sent..).unwrap_or_default());
        self.settle(poller)
    }

    /// Sends what was kept.
    pub(super) fn flush(&mut self, poller: &Poller) -> Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        self.unsent
            .extend_from_slice(unsent.get(sent..).unwrap_or_default());
        self.settle(poller)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.stream.write(bytes) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn settle(&mut self, poller: &Poller) -> Result<()> {
        let wanted = if self.unsent.is_empty() {
            Interest::Read
        } else {
            Interest::ReadAndWrite
        };
        if wanted != self.interest {
            poller.change(&self.stream, self.number, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }
}
