//! What clients write, and what must become of it.

use Fate::{Both, Passed, Refused};

/// What must become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Answered by the balancer with this; no target hears of it.
    Refused(u16),
    /// One request reaches a target, with this body.
    Passed(&'static str),
    /// It does, and the one behind it is another.
    Both(&'static str),
}

/// A request that hides behind the one of a row where `@` stands.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// Of each row: header lines, what follows the head, and its fate. In front comes the
/// beginning of a POST to the row's own path.
const ROWS: [(&str, &str, Fate); 49] = [
    // As it should be.
    ("Content-Length: 5", "hello", Passed("hello")),
    ("Content-Length: 0", "", Passed("")),
    ("X: y", "", Passed("")),
    (
        "Transfer-Encoding: chunked",
        "5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    (
        "Transfer-Encoding: CHUNKED",
        "5\r\nhello\r\n0\r\n\r\n",
        Passed("hello"),
    ),
    (
        "Transfer-Encoding:chunked",
        "1;a=b\r\nh\r\n4\r\nello\r\n000\r\n\r\n",
        Passed("hello"),
    ),
    (
        "Transfer-Encoding: chunked",
        "5\r\nhello\r\n0\r\nX-End: 1\r\n\r\n",
        Passed("hello"),
    ),
    ("Content-Length: 5", "hello@", Both("hello")),
    (
        "Transfer-Encoding: chunked",
        "5\r\nhello\r\n0\r\n\r\n@",
        Both("hello"),
    ),
    (
        "Connection: content-length\r\nContent-Length: 5",
        "hello@",
        Both("hello"),
    ),
    (
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
        "1\r\nh\r\n0\r\n\r\n@",
        Both("h"),
    ),
    ("Transfer_Encoding: chunked", "@", Both("")),
    ("Content_Length: 29", "@", Both("")),
    // Two lengths, or none.
    (
        "Content-Length: 5\r\nContent-Length: 6",
        "hello@",
        Refused(400),
    ),
    ("Content-Length: 5, 6", "hello@", Refused(400)),
    ("Content-Length: +5", "hello@", Refused(400)),
    ("Content-Length: -1", "@", Refused(400)),
    ("Content-Length: 0x5", "hello@", Refused(400)),
    ("Content-Length: 5 5", "hello@", Refused(400)),
    ("Content-Length: ", "@", Refused(400)),
    (
        "Content-Length: 99999999999999999999",
        "hello@",
        Refused(400),
    ),
    ("Content-Length : 5", "hello@", Refused(400)),
    (" Content-Length: 5", "hello@", Refused(400)),
    // Length and coding.
    (
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "0\r\n\r\n@",
        Refused(400),
    ),
    // Codings that may or may not be `chunked`.
    ("Transfer-Encoding : chunked", "0\r\n\r\n@", Refused(400)),
    ("Transfer-Encoding:\x0bchunked", "0\r\n\r\n@", Refused(400)),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n@", Refused(400)),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n@", Refused(400)),
    (
        "Transfer-Encoding: chunked, identity",
        "0\r\n\r\n@",
        Refused(400),
    ),
    ("Transfer-Encoding: identity", "@", Refused(400)),
    (
        "Transfer-Encoding: gzip, chunked",
        "0\r\n\r\n@",
        Refused(501),
    ),
    (
        "Transfer-Encoding: chunked, chunked",
        "0\r\n\r\n@",
        Refused(501),
    ),
    (
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n@",
        Refused(501),
    ),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n@", Refused(400)),
    (
        "X: y\r\n Transfer-Encoding: chunked",
        "0\r\n\r\n@",
        Refused(400),
    ),
    (
        "X: y\rTransfer-Encoding: chunked",
        "0\r\n\r\n@",
        Refused(400),
    ),
    ("X: y\0\r\nContent-Length: 5", "hello@", Refused(400)),
    // Chunks that are none.
    (
        "Transfer-Encoding: chunked",
        "0x5\r\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "+5\r\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "-5\r\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "5\r\nhelloX\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "5\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "5;a\nb\r\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    (
        "Transfer-Encoding: chunked",
        "\r\nhello\r\n0\r\n\r\n@",
        Refused(400),
    ),
    ("Transfer-Encoding: chunked", "5\r\nhello\r\n", Refused(400)),
    ("Content-Length: 5", "hell", Refused(400)),
];

/// Whole requests, with `#` for the row's own path.
const WHOLE: [(&str, Fate); 18] = [
    // Behind another request both halves are not seen to disagree: the coding counts, the
    // length goes, and nothing is read behind it.
    (
        "POST # HTTP/1.1\r\nHost: a\r\n\r\nPOST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
        Both(""),
    ),
    ("\r\n\r\nPOST # HTTP/1.1\r\nHost: a\r\n\r\n", Passed("")),
    (
        "POST # HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello@",
        Both("hello"),
    ),
    ("POST http://a# HTTP/1.1\r\nHost: a\r\n\r\n", Passed("")),
    (
        "POST # HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello@",
        Passed("hello"),
    ),
    (
        "POST # HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@",
        Refused(400),
    ),
    ("POST http://b# HTTP/1.1\r\nHost: a\r\n\r\n@", Refused(400)),
    (
        "POST # HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n@",
        Refused(400),
    ),
    (
        "POST # HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n@",
        Refused(400),
    ),
    ("POST # HTTP/1.1\r\nHost: a b\r\n\r\n@", Refused(400)),
    (
        "POST # HTTP/1.1\r\nX y: z\r\nHost: a\r\n\r\n@",
        Refused(400),
    ),
    (
        "POST # HTTP/1.1\r\nX\x01: z\r\nHost: a\r\n\r\n@",
        Refused(400),
    ),
    ("POST # HTTP/1.1\r\n: z\r\nHost: a\r\n\r\n@", Refused(400)),
    ("POST  # HTTP/1.1\r\nHost: a\r\n\r\n@", Refused(400)),
    ("POST # HTTP/1.1 x\r\nHost: a\r\n\r\n@", Refused(400)),
    ("POST # HTTP/1.2\r\nHost: a\r\n\r\n@", Refused(400)),
    ("POST #\0 HTTP/1.1\r\nHost: a\r\n\r\n@", Refused(400)),
    ("POST # \r\nHost: a\r\n\r\n@", Refused(400)),
];

/// All of them, each with a path of its own: its number.
pub(super) fn rows() -> impl Iterator<Item = (String, Fate)> {
    let headers = ROWS.iter().map(|(headers, body, fate)| {
        let head = format!("POST # HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
        (format!("{head}{body}"), *fate)
    });
    let whole = WHOLE
        .iter()
        .map(|(request, fate)| ((*request).to_owned(), *fate));
    headers.chain(whole).enumerate().map(|(row, (text, fate))| {
        let text = text.replace('#', &format!("/{row}")).replace('@', NEXT);
        (text, fate)
    })
}
