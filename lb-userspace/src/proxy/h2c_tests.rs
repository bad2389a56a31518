//! Targets that speak HTTP/2 in the clear, asked by clients of HTTP/2 and HTTP/1.1.

use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::http2::lab::{Client, body, get};
use super::tls_lab::{self, Lab, UPGRADE, head, limits, read};
use crate::config::{Listener, Protocol, TargetProtocol};

const HOUR: Duration = Duration::from_secs(3600);

async fn lab(protocol: Protocol) -> Lab {
    let listener = Listener {
        protocol,
        ..tls_lab::listener(HOUR)
    };
    Lab::toward(listener, limits(), |_, group| {
        group.protocol = TargetProtocol::H2c
    })
    .await
}

/// A connection that the balancer has opened to the target.
struct Target {
    asked: tokio::sync::mpsc::Receiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    driver: JoinHandle<()>,
}

impl Target {
    async fn accept(lab: &Lab) -> Self {
        Self::accept_for(lab, 100).await
    }

    /// Allows so many streams at a time.
    async fn accept_for(lab: &Lab, streams: u32) -> Self {
        let (stream, _) = lab.targets.accept().await.expect("accepted");
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams);
        let connection = builder.handshake(stream).await.expect("a connection");
        let (sender, asked) = tokio::sync::mpsc::channel(16);
        let driver = tokio::spawn(Self::drive(connection, sender));
        Self { asked, driver }
    }

    async fn drive(
        mut connection: Connection<TcpStream, Bytes>,
        asked: tokio::sync::mpsc::Sender<(Request<RecvStream>, SendResponse<Bytes>)>,
    ) {
        while let Some(Ok(stream)) = connection.accept().await {
            asked.send(stream).await.expect("somebody asks");
        }
    }

    async fn next(&mut self) -> (Request<RecvStream>, SendResponse<Bytes>) {
        self.asked.recv().await.expect("a request")
    }
}

/// One message of gRPC: not compressed, so long.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("short").to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat().into()
}

async fn data(stream: &mut RecvStream) -> Bytes {
    let data = stream.data().await.expect("data").expect("no reset");
    let released = stream.flow_control().release_capacity(data.len());
    released.expect("released");
    data
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        "grpc-status".parse().expect("a name"),
        HeaderValue::from_static(code),
    )])
}

#[tokio::test]
async fn grpc_streams_both_ways_with_trailers() {
    let lab = lab(Protocol::Https).await;
    let mut client = Client::new(&lab).await;
    client.ready().await;
    let call = Request::post("https://a.test/chat.Chat/Talk")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "5S");
    let call = call.body(()).expect("a request");
    let (answer, mut talk) = client.sender.send_request(call, false).expect("sent");
    let mut target = Target::accept(&lab).await;
    let (asked, mut respond) = target.next().await;
    assert_eq!(asked.uri(), "http://a.test/chat.Chat/Talk");
    let headers = asked.headers();
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["grpc-timeout"], "5S");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert!(!headers.contains_key("host"), "{headers:?}");

    let begun = Response::builder().header("content-type", "application/grpc");
    let begun = begun.body(()).expect("an answer");
    let mut reply = respond.send_response(begun, false).expect("sent");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    assert!(answer.headers().contains_key("set-cookie"));
    let (mut from_client, mut from_target) = (asked.into_body(), answer.into_body());
    for round in ["one", "two", "three"] {
        talk.send_data(message(round), false).expect("sent");
        assert_eq!(data(&mut from_client).await, message(round));
        reply.send_data(message(round), false).expect("sent");
        assert_eq!(data(&mut from_target).await, message(round));
    }
    talk.send_data(Bytes::new(), true).expect("sent");
    while let Some(rest) = from_client.data().await {
        assert!(rest.expect("no reset").is_empty());
    }
    reply.send_trailers(status("0")).expect("sent");
    assert!(from_target.data().await.is_none());
    let trailers = from_target.trailers().await.expect("no reset");
    assert_eq!(trailers.expect("trailers")["grpc-status"], "0");

    // Refused at once, in trailers only; over the same connection.
    let call = Request::post("https://a.test/chat.Chat/None").header("te", "trailers");
    let answer = client.get(call).await;
    let (_, mut respond) = target.next().await;
    let mut refused = Response::new(());
    *refused.headers_mut() = status("12");
    respond.send_response(refused, true).expect("sent");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.headers()["grpc-status"], "12");
    assert!(answer.body().is_end_stream());
}

#[tokio::test]
async fn http_1_clients_are_served_too() {
    let lab = lab(Protocol::Http).await;
    let mut client = lab.dial().await;
    let request = b"POST / HTTP/1.1\r\nHost: a.test\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
        Content-Length: 4\r\n\r\nping";
    client.write_all(request).await.expect("written");
    let mut target = Target::accept(&lab).await;
    let (asked, mut respond) = target.next().await;
    assert_eq!(asked.uri(), "http://a.test/");
    assert!(!asked.headers().contains_key("x-hop"));
    assert!(!asked.headers().contains_key("te"));
    assert_eq!(data(&mut asked.into_body()).await, "ping");
    let answer = Response::builder().header("content-length", 4).body(());
    let mut reply = respond
        .send_response(answer.expect("an answer"), false)
        .expect("sent");
    reply.send_data("pong".into(), true).expect("sent");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(read(&mut client, 4).await, b"pong");
    client.write_all(UPGRADE.as_bytes()).await.expect("written");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
}

#[tokio::test]
async fn more_streams_than_a_target_allows_open_another_connection() {
    let lab = lab(Protocol::Https).await;
    let mut client = Client::new(&lab).await;
    let first = client.get(get("/")).await;
    let mut one = Target::accept_for(&lab, 1).await;
    let (_, mut respond) = one.next().await;
    // Its head shows that the target's settings have come.
    let mut open = respond
        .send_response(Response::new(()), false)
        .expect("sent");
    let first = first.await.expect("an answer");
    let second = client.get(get("/")).await;
    let mut other = Target::accept_for(&lab, 1).await;
    let (_, mut respond) = other.next().await;
    respond
        .send_response(Response::new(()), true)
        .expect("sent");
    assert_eq!(second.await.expect("an answer").status(), StatusCode::OK);
    open.send_data("hi".into(), true).expect("sent");
    assert_eq!(body(first).await, b"hi");
}

#[tokio::test]
async fn a_call_taken_back_is_cancelled() {
    let lab = lab(Protocol::Https).await;
    let mut client = Client::new(&lab).await;
    client.ready().await;
    let request = get("/").body(()).expect("a request");
    let (answer, mut stream) = client.sender.send_request(request, false).expect("sent");
    let mut target = Target::accept(&lab).await;
    let (_asked, mut respond) = target.next().await;
    stream.send_reset(Reason::CANCEL);
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    assert!(answer.await.is_err());
}

#[tokio::test]
async fn a_lost_connection_is_followed_by_another() {
    let lab = lab(Protocol::Https).await;
    let mut client = Client::new(&lab).await;
    for _ in 0..3 {
        let answer = client.get(get("/")).await;
        let mut target = Target::accept(&lab).await;
        let (_, mut respond) = target.next().await;
        respond
            .send_response(Response::new(()), true)
            .expect("sent");
        assert_eq!(answer.await.expect("an answer").status(), StatusCode::OK);
        // In the midst of the next request, and between two.
        let answer = client.get(get("/")).await;
        let _asked = target.next().await;
        target.driver.abort();
        assert_eq!(
            answer.await.expect("an answer").status(),
            StatusCode::BAD_GATEWAY
        );
    }
    drop(lab.targets);
    let answer = client.get(get("/")).await.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
}
