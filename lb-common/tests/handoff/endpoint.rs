//! TCP reduced to positions: one end of a connection, and its segments.

/// A segment: at most one byte, and an acknowledgment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Segment {
    /// Position of its byte, or of the next one where it has none.
    pub(crate) seq: u8,
    /// Which byte of the sender's stream it carries.
    pub(crate) byte: Option<u8>,
    /// Next position expected from the other end.
    pub(crate) ack: u8,
}

impl Segment {
    /// The position behind it.
    pub(crate) fn end(self) -> u8 {
        self.seq + u8::from(self.byte.is_some())
    }
}

/// One end: positions count from the end's own first, which differ between legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// Position of the first byte it ever sends.
    pub(crate) first: u8,
    /// Oldest position not acknowledged.
    pub(crate) unacknowledged: u8,
    /// Next position to be sent.
    pub(crate) next: u8,
    /// Next position expected.
    pub(crate) expected: u8,
    /// Position of the first byte it will ever receive.
    pub(crate) peer_first: u8,
    /// Bytes it sends in all.
    pub(crate) bytes: u8,
}

/// A byte that arrived was not the next one of the stream.
#[derive(Debug)]
pub(crate) struct WrongByte;

impl Endpoint {
    pub(crate) fn new(first: u8, peer_first: u8, bytes: u8) -> Self {
        Endpoint {
            first,
            unacknowledged: first,
            next: first,
            expected: peer_first,
            peer_first,
            bytes,
        }
    }

    /// Bytes received in order.
    pub(crate) fn received(&self) -> u8 {
        self.expected - self.peer_first
    }

    /// Sends its next byte.
    pub(crate) fn send(&mut self) -> Segment {
        let segment = self.segment(self.next);
        self.next += 1;
        segment
    }

    /// The segment at a position sent before.
    pub(crate) fn segment(&self, seq: u8) -> Segment {
        Segment {
            seq,
            byte: Some(seq - self.first),
            ack: self.expected,
        }
    }

    /// A segment without data.
    pub(crate) fn acknowledgment(&self) -> Segment {
        Segment {
            seq: self.next,
            byte: None,
            ack: self.expected,
        }
    }

    /// Takes a segment; answers whether an acknowledgment is due.
    pub(crate) fn take(&mut self, segment: Segment) -> Result<bool, WrongByte> {
        if segment.ack > self.unacknowledged && segment.ack <= self.next {
            self.unacknowledged = segment.ack;
        }
        let Some(byte) = segment.byte else {
            return Ok(false);
        };
        if segment.seq == self.expected {
            if byte != self.received() {
                return Err(WrongByte);
            }
            self.expected += 1;
        }
        Ok(true)
    }

    /// Whether it has sent everything and knows that it arrived.
    pub(crate) fn acknowledged(&self) -> bool {
        self.unacknowledged == self.first + self.bytes
    }
}
