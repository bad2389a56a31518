//! Whatever a client writes, three parsers that are not ours must read the same requests
//! out of what a target gets: httparse, h11 (Python), which is the stricter one, and
//! llhttp (Node), which most targets have.
//!
//! The rows are after the public cases of request smuggling (CL.TE, TE.CL, chunks,
//! white space, line ends, control bytes); the payloads are our own. Needs python3 with
//! h11, and Node, and fails without: a check that is skipped when its tool is missing
//! proves nothing.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tls_lab::Lab;
use crate::config::Protocol;

/// Debian's own: python3-h11 is not in every environment that calls itself python3.
const PYTHON: &str = "/usr/bin/python3";
const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// Reads a stream of bytes as a server would; one line of base64 in, one of JSON out.
const H11: &str = r#"
import base64, json, sys, h11
latin = lambda text: bytes(text).decode("latin1")
for line in sys.stdin:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(base64.b64decode(line))
    requests = []
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            break
        if isinstance(event, h11.Request):
            requests.append({
                "method": latin(event.method), "target": latin(event.target),
                "headers": sorted([latin(name), latin(value)] for name, value in event.headers),
                "body": "", "whole": False,
            })
        elif isinstance(event, h11.Data):
            requests[-1]["body"] += latin(event.data)
        elif isinstance(event, h11.EndOfMessage):
            requests[-1]["whole"] = True
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                break
            connection.start_next_cycle()
        else:
            break
    print(json.dumps(requests))
"#;

/// The same by Node's server. All that follows from bytes has happened by the next turn of
/// its loop.
const NODE: &str = r#"
const http = require("http"), { Duplex } = require("stream");
const turn = () => new Promise(setImmediate);
const order = (a, b) => (a[0] === b[0] ? (a[1] < b[1] ? -1 : 1) : a[0] < b[0] ? -1 : 1);
async function read(bytes) {
  const requests = [];
  const server = http.createServer({ requireHostHeader: false }, (request, response) => {
    const raw = request.rawHeaders, headers = [];
    for (let at = 0; at < raw.length; at += 2)
      headers.push([raw[at].toLowerCase(), raw[at + 1]]);
    const one = {
      method: request.method, target: request.url, headers: headers.sort(order),
      body: "", whole: false,
    };
    requests.push(one);
    request.setEncoding("latin1");
    request.on("data", (text) => (one.body += text));
    request.on("end", () => { one.whole = request.complete; response.end(); });
    request.on("error", () => {});
  });
  server.on("clientError", () => {});
  const socket = new Duplex({ read() {}, write: (chunk, encoding, done) => done() });
  socket.on("error", () => {});
  server.emit("connection", socket);
  socket.push(bytes);
  await turn();
  socket.push(null);
  await turn();
  return requests;
}
(async () => {
  const lines = require("fs").readFileSync(0, "latin1").split("\n").slice(0, -1);
  for (const line of lines)
    console.log(JSON.stringify(await read(Buffer.from(line, "base64"))));
})();
"#;

/// What must become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Answered by the balancer with this; no target hears of it.
    Refused(u16),
    /// One request reaches a target, with this body.
    Passed(&'static str),
    /// It does, and the one behind it is another.
    Both(&'static str),
}

use Fate::{Both, Passed, Refused};

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
const WHOLE: [(&str, Fate); 17] = [
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

/// A request as a parser has read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Read {
    method: String,
    target: String,
    /// Names in lower case, sorted.
    headers: Vec<(String, String)>,
    body: String,
    whole: bool,
}

#[tokio::test]
async fn what_is_forwarded_means_the_same_to_every_parser() {
    let lab = Lab::of(Protocol::Http, HOUR).await;
    let seen = std::cell::RefCell::new(Vec::new());
    let rows: Vec<(String, Fate)> = rows().collect();
    let asking = async {
        for (row, (request, fate)) in rows.iter().enumerate() {
            let answer = ask(&lab, request).await;
            let statuses: Vec<&str> = answer
                .split("HTTP/1.")
                .skip(1)
                .map(|answer| &answer[2..5])
                .collect();
            let expected = match fate {
                Refused(status) => vec![status.to_string()],
                Passed(_) => vec!["200".to_owned()],
                Both(_) => vec!["200".to_owned(), "200".to_owned()],
            };
            assert_eq!(statuses, expected, "row {row}, {request:?}: {answer}");
        }
    };
    tokio::select! {
        () = asking => {}
        () = serve(&lab, &seen) => {}
    }
    let seen = seen.into_inner();
    let by_httparse: Vec<Vec<Read>> = seen.iter().map(|bytes| httparsed(bytes)).collect();
    assert_eq!(read_by(h11(), &seen), by_httparse, "h11");
    assert_eq!(read_by(node(), &seen), by_httparse, "Node");
    let whole: Vec<&Read> = by_httparse
        .iter()
        .flatten()
        .filter(|one| one.whole)
        .collect();
    let next = whole.iter().filter(|one| one.target == "/next").count();
    let both = rows.iter().filter(|(_, fate)| matches!(fate, Both(_)));
    assert_eq!(next, both.count());
    for (row, (request, fate)) in rows.iter().enumerate() {
        let path = format!("/{row}");
        let mine: Vec<&&Read> = whole.iter().filter(|one| one.target == path).collect();
        match (fate, &mine[..]) {
            (Refused(_), []) => {}
            (Passed(body) | Both(body), [one]) if one.body == *body && one.method == "POST" => {
                let hosts = one.headers.iter().filter(|(name, _)| name == "host");
                let hosts: Vec<&str> = hosts.map(|(_, host)| host.as_str()).collect();
                assert_eq!(hosts, ["a"], "row {row}, {request:?}");
            }
            _ => panic!("row {row}, {request:?}: {mine:?}"),
        }
    }
}

fn rows() -> impl Iterator<Item = (String, Fate)> {
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

/// Sends all of it, ends its half, and reads to the end.
async fn ask(lab: &Lab, request: &str) -> String {
    let mut client = lab.dial().await;
    client.write_all(request.as_bytes()).await.expect("written");
    // Refused already, it may be closed.
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut answer)).await;
    let _ = read.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Answers each request that is whole, and keeps what came on each connection.
async fn serve(lab: &Lab, seen: &std::cell::RefCell<Vec<Vec<u8>>>) {
    loop {
        let (mut target, _) = lab.targets.accept().await.expect("accepted");
        let place = seen.borrow().len();
        seen.borrow_mut().push(Vec::new());
        let mut bytes = Vec::new();
        while !httparsed(&bytes).iter().any(|one| one.whole) {
            match target.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            seen.borrow_mut()[place].clone_from(&bytes);
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = target.write_all(answer).await;
        // Nothing may follow.
        let _ = target.read_to_end(&mut bytes).await;
        seen.borrow_mut()[place] = bytes;
    }
}

/// httparse reads heads and the sizes of chunks; the rest is as RFC 9112 says.
fn httparsed(mut bytes: &[u8]) -> Vec<Read> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(head)) = request.parse(bytes) else {
            break;
        };
        let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
        let mut headers: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|header| (header.name.to_lowercase(), text(header.value)))
            .collect();
        headers.sort();
        let value = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        bytes = &bytes[head..];
        let (body, rest) = match (value("transfer-encoding"), value("content-length")) {
            (Some(_), _) => dechunked(bytes),
            (None, length) => {
                let length = length.map_or(0, |length| length.parse().expect("a length"));
                let body = &bytes[..length.min(bytes.len())];
                (body.to_vec(), bytes.get(length..))
            }
        };
        all.push(Read {
            method: request.method.expect("a method").to_owned(),
            target: request.path.expect("a path").to_owned(),
            body: text(&body),
            headers,
            whole: rest.is_some(),
        });
        bytes = rest.unwrap_or_default();
    }
    all
}

/// The body, and what follows it; `None` if it is not whole.
fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes) {
        bytes = &bytes[start..];
        if size == 0 {
            let end = bytes.windows(2).position(|two| two == b"\r\n");
            let trailers = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let end = if end == Some(0) {
                Some(2)
            } else {
                trailers.map(|at| at + 4)
            };
            return (body, end.and_then(|end| bytes.get(end..)));
        }
        let size = usize::try_from(size).expect("a size");
        body.extend_from_slice(&bytes[..size.min(bytes.len())]);
        let Some(rest) = bytes.get(size + 2..) else {
            break;
        };
        bytes = rest;
    }
    (body, None)
}

fn h11() -> Command {
    let mut python = Command::new(PYTHON);
    python.args(["-c", H11]);
    python
}

fn node() -> Command {
    let mut node = Command::new("node");
    node.args(["-e", NODE]);
    node
}

/// What another program's parser reads of each of these.
fn read_by(mut parser: Command, streams: &[Vec<u8>]) -> Vec<Vec<Read>> {
    let missing = "needs node, and python3 with h11: apt-get install nodejs python3-h11";
    let mut parser = parser
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect(missing);
    let mut input = parser.stdin.take().expect("a pipe");
    let lines: Vec<String> = streams.iter().map(|bytes| STANDARD.encode(bytes)).collect();
    let writer = std::thread::spawn(move || input.write_all((lines.join("\n") + "\n").as_bytes()));
    let output = parser.wait_with_output().expect("an end");
    writer.join().expect("no panic").expect(missing);
    assert!(output.status.success(), "{missing}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("requests"))
        .collect()
}
