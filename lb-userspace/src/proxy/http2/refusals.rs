//! What the library refuses by itself: it answers such a stream (431) or resets it, and
//! hands nothing over. The frames that it writes for streams that nobody here has seen
//! tell of it, so that it is counted and logged like other refusals.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use h2::Reason;

/// RFC 9113 section 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
/// RFC 9113 section 4.1.
const HEAD: usize = 9;
/// And the reason of a RST_STREAM.
const ENOUGH: usize = HEAD + 4;
/// Answers whose resets may still come.
const ANSWERED: usize = 64;

/// How the library has refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// With 431: its headers are far over the limit.
    TooLarge,
    /// With a reset: HTTP/2 does not allow it.
    Malformed,
    /// With a reset: there are as many at a time as may be.
    TooMany,
}

/// Those of one connection that have not been reported.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The newest stream that was handed over; they come in order.
    accepted: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    found: Vec<Refusal>,
    /// Streams that were answered, and are reset behind that.
    answered: Vec<u32>,
}

impl Refusals {
    /// A stream was handed over: what becomes of it is known here.
    pub(super) fn accepted(&self, stream: u32) {
        self.accepted.store(stream, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> Vec<Refusal> {
        std::mem::take(&mut self.lock().found)
    }

    fn judge(&self, kind: u8, stream: u32, reason: Reason) {
        if stream <= self.accepted.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        let refusal = match (kind, reason) {
            (HEADERS, _) => {
                if state.answered.len() >= ANSWERED {
                    state.answered.remove(0);
                }
                state.answered.push(stream);
                Refusal::TooLarge
            }
            _ if state.answered.contains(&stream) => {
                return state.answered.retain(|answered| *answered != stream);
            }
            (_, Reason::REFUSED_STREAM) => Refusal::TooMany,
            (_, Reason::PROTOCOL_ERROR | Reason::FLOW_CONTROL_ERROR) => Refusal::Malformed,
            // Late frames of streams that are over; and what we have let go of.
            _ => return,
        };
        state.found.push(refusal);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows what the library writes from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    head: [u8; ENOUGH],
    /// Bytes in `head`.
    have: usize,
    /// Bytes of the payload that are still to come.
    skip: usize,
}

impl Scanner {
    pub(super) fn feed(&mut self, mut bytes: &[u8], refusals: &Refusals) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.split_at(skipped).1;
            let wanted = self.wanted() - self.have;
            let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
            for (to, from) in self.head.iter_mut().skip(self.have).zip(head) {
                *to = *from;
            }
            self.have += head.len();
            bytes = rest;
            if self.have >= HEAD && self.have == self.wanted() {
                self.frame(refusals);
            }
        }
    }

    fn wanted(&self) -> usize {
        match self.have >= HEAD && self.kind() == RST_STREAM {
            true => ENOUGH,
            false => HEAD,
        }
    }

    fn kind(&self) -> u8 {
        let [_, _, _, kind, ..] = self.head;
        kind
    }

    /// The head of a frame is there.
    fn frame(&mut self, refusals: &Refusals) {
        let [a, b, c, kind, _, e, f, g, h, reason @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.skip = length.saturating_sub(self.have - HEAD);
        self.have = 0;
        if matches!(kind, HEADERS | RST_STREAM) {
            let reason = Reason::from(u32::from_be_bytes(reason));
            refusals.judge(kind, u32::from_be_bytes([e, f, g, h]), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::{DATA, SETTINGS, frame};
    use super::*;

    fn reset(stream: u32, reason: Reason) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes())
    }

    /// What is found in these frames, however they are cut.
    fn found(accepted: u32, frames: &[Vec<u8>]) -> Vec<Refusal> {
        let bytes = frames.concat();
        let of = |size: usize| {
            let (refusals, mut scanner) = (Refusals::default(), Scanner::default());
            refusals.accepted(accepted);
            for piece in bytes.chunks(size) {
                scanner.feed(piece, &refusals);
            }
            assert_eq!((scanner.have, scanner.skip), (0, 0));
            refusals.take()
        };
        let whole = of(bytes.len());
        for size in 1..20 {
            assert_eq!(of(size), whole);
        }
        whole
    }

    #[test]
    fn streams_that_nobody_has_seen_are_refused() {
        let frames = [
            frame(SETTINGS, 0, 0, &[0; 12]),
            reset(3, Reason::PROTOCOL_ERROR),
            frame(HEADERS, 5, 5, b"anything"),
            reset(7, Reason::REFUSED_STREAM),
            frame(DATA, 0, 1, &[3; 40]),
            reset(5, Reason::PROTOCOL_ERROR),
            reset(9, Reason::FLOW_CONTROL_ERROR),
        ];
        use Refusal::{Malformed, TooLarge, TooMany};
        assert_eq!(found(1, &frames), [Malformed, TooLarge, TooMany, Malformed]);
    }

    #[test]
    fn others_are_not() {
        let frames = [
            frame(HEADERS, 4, 3, b"an answer"),
            reset(3, Reason::PROTOCOL_ERROR),
            reset(5, Reason::CANCEL),
            reset(7, Reason::STREAM_CLOSED),
        ];
        assert_eq!(found(3, &frames), []);
    }
}
