//! Watches the bytes of a request head for both Content-Length and
//! Transfer-Encoding.
//!
//! hyper resolves the conflict (the coding wins, the length is dropped, the
//! connection ends) and does not tell; a request whose two halves disagree about
//! where it ends is an attack or a bug, and is refused. A pipelined head that
//! hyper had buffered already is not seen here; it is resolved as said.

use super::fault::Fault;

/// Enough of a line to know its name.
const NAME: usize = "transfer-encoding:".len();

/// One head, as its bytes come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Framing {
    line: [u8; NAME],
    /// How much of it is there.
    name: usize,
    /// Bytes of the line so far, its end not counted.
    length: usize,
    /// Of the request line, once it has ended.
    request_line: usize,
    begun: bool,
    lengths: bool,
    codings: bool,
    ended: bool,
}

impl Framing {
    /// Looks at the next bytes; what follows the head is not looked at.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            if self.ended {
                return;
            }
            self.take(bytes.get(begin..end).unwrap_or_default());
            self.end_line();
            begin = end + 1;
        }
        self.take(bytes.get(begin..).unwrap_or_default());
    }

    /// Looks at a line, or a piece of one.
    fn take(&mut self, piece: &[u8]) {
        let places = self.line.get_mut(self.name..).unwrap_or_default();
        // Bare or not: names do not contain it.
        let bytes = piece.iter().filter(|byte| **byte != b'\r');
        for (place, byte) in places.iter_mut().zip(bytes) {
            *place = byte.to_ascii_lowercase();
            self.name += 1;
        }
        self.length += piece.strip_suffix(b"\r").unwrap_or(piece).len();
    }

    /// Refuses a head that has both.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.lengths && self.codings {
            return Err(Fault::Malformed(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        Ok(())
    }

    /// Bytes of the request line, as far as it has come.
    pub(super) fn request_line(&self) -> usize {
        if self.begun {
            self.request_line
        } else {
            self.length
        }
    }

    fn end_line(&mut self) {
        let line = self.line.get(..self.name).unwrap_or_default();
        self.lengths |= line.starts_with(b"content-length:");
        self.codings |= line.starts_with(b"transfer-encoding:");
        // Empty lines before the request line are allowed.
        self.ended = self.begun && self.name == 0;
        if !self.begun {
            self.request_line = self.length;
        }
        self.begun |= self.name > 0;
        (self.name, self.length) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(text: &str) -> bool {
        let (mut whole, mut split) = (Framing::default(), Framing::default());
        whole.feed(text.as_bytes());
        for byte in text.as_bytes() {
            split.feed(&[*byte]);
        }
        assert_eq!(whole.check(), split.check());
        assert_eq!(whole.request_line(), split.request_line());
        whole.check().is_err()
    }

    #[test]
    fn the_request_line_is_measured() {
        for (text, length) in [
            ("", 0),
            ("GET /", 5),
            ("\r\nGET / HTTP/1.1\r\n", 14),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\nmore\r\n", 14),
        ] {
            let mut framing = Framing::default();
            framing.feed(text.as_bytes());
            assert_eq!(framing.request_line(), length, "{text:?}");
        }
    }

    #[test]
    fn only_both_in_one_head() {
        assert!(ambiguous(
            "POST / HTTP/1.1\r\ncontent-LENGTH: 1\r\nTransfer-Encoding:chunked\r\n\r\n"
        ));
        assert!(ambiguous(
            "\r\nPOST / HTTP/1.1\nTransfer-Encoding:x\nA: b\nContent-Length:1\n\n"
        ));
        assert!(!ambiguous(
            "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nTransfer-Encoding: x\r\n"
        ));
        assert!(!ambiguous(
            "POST /content-length: HTTP/1.1\r\nX-Content-Length: 1\r\nTransfer-Encoding: x\r\n"
        ));
        assert!(!ambiguous(
            "POST / HTTP/1.1\r\nContent-Length-X: 1\r\nTransfer-Encoding: x\r\n\r\n"
        ));
    }
}
