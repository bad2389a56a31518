//! What clients write in frames of HTTP/2, where nothing has to be escaped, and what must become
//! of it.

use Fate::{Passed, Refused};

use crate::proxy::http2::lab::{DATA, END_HEADERS, END_STREAM, HEADERS, frame};

/// What must become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Answered by the balancer, or reset; no target hears a whole request of it.
    Refused,
    /// One request reaches a target, with this body.
    Passed(&'static str),
}

/// How a request ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// With its headers.
    None,
    /// With this.
    Data(&'static str),
    /// With these behind the five bytes `hello`.
    Trailers(&'static [(&'static str, &'static str)]),
}

const HELLO: Body = Body::Data("hello");
/// What would be a request of its own if it were taken for the text of HTTP/1.1.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// Fields in place of, or if their name is new behind, those of a POST to the row's own path.
pub(super) type Row = (&'static [(&'static str, &'static str)], Body, Fate);

pub(super) const ROWS: [Row; 46] = [
    // As it should be.
    (&[], Body::None, Passed("")),
    (&[], HELLO, Passed("hello")),
    (&[("content-length", "5")], HELLO, Passed("hello")),
    (&[("content-length", "0")], Body::None, Passed("")),
    (&[("te", "trailers")], HELLO, Passed("hello")),
    (&[("expect", "100-continue")], HELLO, Passed("hello")),
    (
        &[("cookie", "a=1"), ("cookie", "b=2")],
        HELLO,
        Passed("hello"),
    ),
    (&[("host", "a")], HELLO, Passed("hello")),
    (&[("x", "")], HELLO, Passed("hello")),
    (&[("x", "\u{e9}\t\"")], HELLO, Passed("hello")),
    // Bodies that look like heads, chunks or ends.
    (&[], Body::Data(NEXT), Passed(NEXT)),
    (&[], Body::Data("0\r\n\r\n"), Passed("0\r\n\r\n")),
    (
        &[("content-length", "5")],
        Body::Data("0\r\n\r\n"),
        Passed("0\r\n\r\n"),
    ),
    (
        &[("transfer_encoding", "chunked")],
        Body::Data("0\r\n\r\n"),
        Passed("0\r\n\r\n"),
    ),
    (&[("content_length", "1")], HELLO, Passed("hello")),
    // Trailers: what counts stays out of them.
    (&[], Body::Trailers(&[("x-end", "1")]), Passed("hello")),
    (
        &[("trailer", "content-length, host, x-end")],
        Body::Trailers(&[("content-length", "0"), ("host", "b"), ("x-end", "1")]),
        Passed("hello"),
    ),
    (
        &[("trailer", "x-end")],
        Body::Trailers(&[("x-end", "1\r\n\r\nGET /next HTTP/1.1")]),
        Refused,
    ),
    // Lengths that are not those of the body, or none.
    (&[("content-length", "4")], HELLO, Refused),
    (&[("content-length", "6")], HELLO, Refused),
    (&[("content-length", "0")], HELLO, Refused),
    (&[("content-length", "5")], Body::None, Refused),
    (
        &[("content-length", "5"), ("content-length", "6")],
        HELLO,
        Refused,
    ),
    (&[("content-length", "+5")], HELLO, Refused),
    (&[("content-length", "5, 5")], HELLO, Refused),
    // What is for one hop of HTTP/1.1.
    (
        &[("transfer-encoding", "chunked")],
        Body::Data("0\r\n\r\n"),
        Refused,
    ),
    (&[("transfer-encoding", "identity")], HELLO, Refused),
    (&[("connection", "content-length")], HELLO, Refused),
    (&[("upgrade", "h2c")], HELLO, Refused),
    (&[("te", "chunked")], HELLO, Refused),
    // Lines in what is no line here.
    (
        &[("x", "y\r\ntransfer-encoding: chunked")],
        Body::Data("0\r\n\r\n"),
        Refused,
    ),
    (&[("x", "y\ncontent-length: 0")], HELLO, Refused),
    (&[("x", "y\rz")], HELLO, Refused),
    (&[("x", "y\0")], HELLO, Refused),
    (&[("x: y\r\ncontent-length", "0")], HELLO, Refused),
    (&[("transfer-encoding: chunked\r\nx", "y")], HELLO, Refused),
    (&[("x y", "z")], HELLO, Refused),
    (&[("Content-Length", "5")], HELLO, Refused),
    (&[("", "z")], HELLO, Refused),
    (
        &[(":method", "GET /next HTTP/1.1\r\nHost: a\r\n\r\nPOST")],
        HELLO,
        Refused,
    ),
    (
        &[(":path", "/ HTTP/1.1\r\nHost: a\r\n\r\nGET /next")],
        HELLO,
        Refused,
    ),
    (&[(":path", "/ /next")], HELLO, Refused),
    (&[(":authority", "a\r\nx: y")], HELLO, Refused),
    // Two hosts.
    (&[("host", "b")], HELLO, Refused),
    (&[(":authority", "a b")], HELLO, Refused),
    (&[(":authority", "a@b")], HELLO, Refused),
];

/// The frames of a row, with a path of its own: its number.
pub(super) fn frames(row: usize, (more, body, _): Row) -> Vec<u8> {
    let path = format!("/{row}");
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path.as_str()),
        (":authority", "a"),
    ];
    for (name, value) in more {
        match fields
            .iter_mut()
            .find(|(old, _)| old == name && old.starts_with(':'))
        {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    let head = |flags| frame(HEADERS, END_HEADERS | flags, 1, &block(&fields));
    let data = |flags, text: &str| frame(DATA, flags, 1, text.as_bytes());
    match body {
        Body::None => head(END_STREAM),
        Body::Data(text) => [head(0), data(END_STREAM, text)].concat(),
        Body::Trailers(fields) => {
            let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
            [head(0), data(0, "hello"), trailers].concat()
        }
    }
}

/// Each field a literal, its name too (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
