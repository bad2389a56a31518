//! The parsers: httparse and hyper here, h11 and llhttp each in a program of its own.

use std::convert::Infallible;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Debian's own: python3-h11 is not in every environment that calls itself python3.
const PYTHON: &str = "/usr/bin/python3";
const H11: &str = include_str!("h11_server.py");
const NODE: &str = include_str!("node_server.js");

/// A request as a parser has read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Read {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case, sorted.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) whole: bool,
}

/// httparse reads heads and the sizes of chunks; the rest is as RFC 9112 says.
pub(super) fn httparsed(mut bytes: &[u8]) -> Vec<Read> {
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

/// What hyper as a server reads: httparse's heads, lengths and chunks of its own.
pub(super) async fn hypered(bytes: &[u8]) -> Vec<Read> {
    let all: Arc<Mutex<Vec<Read>>> = Arc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let all = all.clone();
        async move {
            let last = |note: &dyn Fn(&mut Read)| {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                note(all.last_mut().expect("one has begun"));
            };
            let (head, mut body) = request.into_parts();
            let begun = begun(&head);
            all.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(begun);
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    return Ok(Response::new(Empty::<Bytes>::new()));
                };
                if let Some(data) = frame.data_ref() {
                    last(&|one| one.body.extend(data.iter().copied().map(char::from)));
                }
            }
            last(&|one| one.whole = true);
            Ok::<_, Infallible>(Response::new(Empty::new()))
        }
    });
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let mut builder = http1::Builder::new();
    let serving = builder
        .half_close(true)
        .serve_connection(TokioIo::new(server), service);
    let writing = async {
        // Ended already, it reads no more.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    // What it does not understand it ends with an error.
    let (_, ()) = tokio::join!(serving, writing);
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.clone()
}

fn begun(head: &http::request::Parts) -> Read {
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let mut headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect();
    headers.sort();
    Read {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers,
        body: String::new(),
        whole: false,
    }
}

pub(super) fn h11() -> Command {
    let mut python = Command::new(PYTHON);
    python.args(["-c", H11]);
    python
}

pub(super) fn node() -> Command {
    let mut node = Command::new("node");
    node.args(["-e", NODE]);
    node
}

/// What another program's parser reads of each of these.
pub(super) fn read_by(mut parser: Command, streams: &[Vec<u8>]) -> Vec<Vec<Read>> {
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
