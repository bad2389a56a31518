//! Whatever a client writes, parsers that are not ours must read the same requests out of
//! what a target gets: h11 (Python), which is the strictest, llhttp (Node), which most targets
//! have, hyper, and httparse, of which hyper has its heads.
//!
//! The rows are after the public cases of request smuggling (CL.TE, TE.CL, chunks,
//! white space, line ends, control bytes); the payloads are our own. Needs python3 with
//! h11, and Node, and fails without: a check that is skipped when its tool is missing
//! proves nothing.

mod http2_rows;
mod parsers;
mod rows;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::http2::lab::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw};
use super::tls_lab::Lab;
use crate::config::Protocol;
use parsers::{Read, h11, httparsed, hypered, node, read_by};
use rows::Fate::{self, Both, Passed, Refused};
use rows::rows;

const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

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
    let whole = read_by_all(&seen.into_inner()).await;
    let next: Vec<&Read> = whole.iter().filter(|one| one.target == "/next").collect();
    let both = rows.iter().filter(|(_, fate)| matches!(fate, Both(_)));
    assert_eq!(next.len(), both.count());
    assert!(next.iter().all(|one| one.body.is_empty()), "{next:?}");
    assert!(whole.iter().all(|one| one.target != "/hidden"));
    for (row, (request, fate)) in rows.iter().enumerate() {
        let path = format!("/{row}");
        let mine: Vec<&Read> = whole.iter().filter(|one| one.target == path).collect();
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

#[tokio::test]
async fn what_came_in_frames_means_the_same_to_every_parser() {
    let lab = Lab::new(HOUR).await;
    let seen = std::cell::RefCell::new(Vec::new());
    let asking = async {
        for (row, what) in http2_rows::ROWS.into_iter().enumerate() {
            let passed = matches!(what.2, http2_rows::Fate::Passed(_));
            let frames = http2_rows::frames(row, what);
            let answered = timeout(PATIENCE, is_answered(&lab, &frames));
            let answered = answered.await.expect("an answer, a reset or an end");
            assert_eq!(answered, passed, "row {row}, {what:?}");
        }
    };
    tokio::select! {
        () = asking => {}
        () = serve(&lab, &seen) => {}
    }
    let whole = read_by_all(&seen.into_inner()).await;
    let mut expected = Vec::new();
    for (row, (_, _, fate)) in http2_rows::ROWS.into_iter().enumerate() {
        if let http2_rows::Fate::Passed(body) = fate {
            expected.push(("POST".to_owned(), format!("/{row}"), body.to_owned()));
        }
    }
    let read = |one: Read| {
        let hosts = one.headers.iter().filter(|(name, _)| name == "host");
        let hosts: Vec<&str> = hosts.map(|(_, host)| host.as_str()).collect();
        assert_eq!(hosts, ["a"], "{one:?}");
        (one.method, one.target, one.body)
    };
    let read: Vec<_> = whole.into_iter().map(read).collect();
    assert_eq!(read, expected);
}

/// Sends these frames; whether a target has answered their stream.
async fn is_answered(lab: &Lab, frames: &[u8]) -> bool {
    let mut client = Raw::new(lab, frames).await;
    while let Some(frame) = client.reader.next().await {
        match frame.kind {
            // `:status 200` in one byte (RFC 7541 appendix A).
            HEADERS if frame.payload.first() == Some(&0x88) => return true,
            HEADERS | DATA if frame.flags & END_STREAM != 0 => return false,
            RST_STREAM | GOAWAY => return false,
            _ => {}
        }
    }
    false
}

/// The requests that are whole of each of these, once all parsers have read the same.
async fn read_by_all(seen: &[Vec<u8>]) -> Vec<Read> {
    let by_httparse: Vec<Vec<Read>> = seen.iter().map(|bytes| httparsed(bytes)).collect();
    let mut by_hyper = Vec::new();
    for bytes in seen {
        by_hyper.push(hypered(bytes).await);
    }
    assert_eq!(by_hyper, by_httparse, "hyper");
    assert_eq!(read_by(h11(), seen), by_httparse, "h11");
    assert_eq!(read_by(node(), seen), by_httparse, "Node");
    let all = by_httparse.into_iter().flatten();
    all.filter(|one| one.whole).collect()
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
