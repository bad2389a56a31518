//! What the library refuses by itself is counted like other refusals.

use std::time::Duration;

use h2::Reason;
use tokio::io::AsyncWriteExt;

use super::lab::{self, Client, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, RST_STREAM};
use super::lab::{Raw, frame};
use crate::config::{Limits, Protocol};
use crate::proxy::cut_tests::Logged;
use crate::proxy::tls_lab::{Lab, head, limits};

const HOUR: Duration = Duration::from_secs(3600);

async fn counted(lab: &Lab, reason: &str, count: usize) {
    let labels = format!("listener=\"secure\",reason=\"{reason}\"");
    lab.counted(&format!("limpet_rejected_total{{{labels}}} {count}"))
        .await;
}

/// A request with one field more, a literal.
fn request(stream: u32, name: &str, value: &str) -> Vec<u8> {
    let mut block = HEAD.to_vec();
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).expect("short"));
        block.extend_from_slice(text.as_bytes());
    }
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[tokio::test]
async fn what_http2_does_not_allow() {
    let lab = Lab::new(HOUR).await;
    let mut raw = Raw::new(&lab, &[]).await;
    let refused = [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        (":status", "200"),
        ("content-length", "some"),
        ("content-length", "5"),
    ];
    let mut stream = 1;
    for (name, value) in refused {
        raw.writer.send(&request(stream, name, value)).await;
        let reset = raw.reader.next_of(RST_STREAM).await;
        assert_eq!(
            (reset.stream, reset.reason()),
            (stream, Reason::PROTOCOL_ERROR),
            "{name}"
        );
        stream += 2;
    }
    counted(&lab, "malformed", refused.len()).await;
    // The connection goes on, and what is handed over is no refusal.
    raw.writer.send(&request(stream, "x", "y")).await;
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    // Until one cannot even be decoded: names are in lower case.
    raw.writer.send(&request(stream + 2, "X", "y")).await;
    let goaway = raw.reader.next_of(GOAWAY).await;
    assert_eq!(goaway.reason(), Reason::PROTOCOL_ERROR);
    counted(&lab, "malformed", refused.len() + 1).await;
}

#[tokio::test]
async fn each_has_its_line() {
    let logged = Logged::new(Protocol::Https).await;
    let request = request(1, "connection", "close");
    let _raw = Raw::new(&logged.lab, &request).await;
    let line = logged.line().await;
    let said = ["fault", "cause", "origin"].map(|field| line[field].as_str());
    assert_eq!(said, ["malformed", "refused", "balancer"].map(Some));
    assert!(line["status"].is_null(), "{line}");
}

#[tokio::test]
async fn headers_that_are_far_too_large() {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    for size in [1, 3] {
        let large = "x".repeat(limits().header_bytes * size);
        let answer = client.get(lab::get("/").header("x-large", large)).await;
        assert_eq!(answer.await.expect("an answer").status(), 431);
    }
    let labels = "code=\"431\",listener=\"secure\",origin=\"balancer\",target_group=\"\"";
    lab.counted(&format!("limpet_requests_total{{{labels}}} 2"))
        .await;
    counted(&lab, "headers_too_large", 2).await;
}

#[tokio::test]
async fn more_streams_than_there_may_be() {
    let lab = Lab::new(HOUR).await;
    let mut raw = Raw::new(&lab, &[]).await;
    let many = super::STREAMS + 3;
    let requests: Vec<u8> = (0..many)
        .flat_map(|number| lab::request(2 * number + 1))
        .collect();
    raw.writer.send(&requests).await;
    let reset = raw.reader.next_of(RST_STREAM).await;
    assert_eq!(reset.reason(), Reason::REFUSED_STREAM);
    counted(&lab, "http2_streams", 3).await;
}

/// Room for two requests at a time of a connection, then one of each other.
const ROOM: u32 = 4;

#[tokio::test]
async fn streams_that_leave_no_room_to_others() {
    let limits = Limits {
        max_connections: ROOM,
        ..limits()
    };
    let lab = Lab::with(Protocol::Https, HOUR, limits).await;
    let mut client = Client::new(&lab).await;
    let _first = client.get(lab::get("/")).await;
    let second = client.get(lab::get("/second")).await;
    let mut targets = [lab.targets.accept().await, lab.targets.accept().await];
    for count in 1..=2 {
        let refused = client.get(lab::get("/")).await.await.expect_err("a reset");
        assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
        counted(&lab, "max_connections", count).await;
    }
    // Who comes with a connection is served.
    let mut other = lab.client().await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    other.write_all(request).await.expect("written");
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    // And another stream when one has ended.
    for target in &mut targets {
        let (target, _) = target.as_mut().expect("accepted");
        if head(target).await.starts_with("GET /second ") {
            target
                .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .await
                .expect("written");
        }
    }
    second.await.expect("an answer");
    let _again = client.get(lab::get("/again")).await;
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
}
