//! Targets that speak HTTP/2 in the clear, asked by clients of HTTP/2 and HTTP/1.1.

use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams);
        Self::accept_as(lab, &builder).await
    }

    /// Takes WebSockets (RFC 8441 section 3).
    async fn accept_web_sockets(lab: &Lab) -> Self {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        Self::accept_as(lab, &builder).await
    }

    async fn accept_as(lab: &Lab, builder: &h2::server::Builder) -> Self {
        let (stream, _) = lab.targets.accept().await.expect("accepted");
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
}

/// A WebSocket that a target has been asked for, and the answer to it.
async fn asked_for(target: &mut Target) -> (Request<RecvStream>, SendResponse<Bytes>) {
    let (asked, respond) = target.next().await;
    assert_eq!(asked.method(), "CONNECT");
    assert_eq!(asked.uri(), "http://a.test/chat");
    let protocol = asked.extensions().get::<h2::ext::Protocol>();
    assert_eq!(protocol.map(h2::ext::Protocol::as_str), Some("websocket"));
    let headers = asked.headers();
    assert_eq!(headers["sec-websocket-version"], "13");
    assert!(headers.contains_key("x-forwarded-for"), "{headers:?}");
    for name in ["sec-websocket-key", "host", "connection", "upgrade"] {
        assert!(!headers.contains_key(name), "{headers:?}");
    }
    (asked, respond)
}

#[tokio::test]
async fn a_web_socket_over_http1_is_an_extended_connect_to_its_target() {
    let lab = lab(Protocol::Http).await;
    let mut client = lab.dial().await;
    let upgrade = format!("{UPGRADE}early");
    client.write_all(upgrade.as_bytes()).await.expect("written");
    let mut target = Target::accept_web_sockets(&lab).await;
    let (asked, mut respond) = asked_for(&mut target).await;
    let mut reply = respond
        .send_response(Response::new(()), false)
        .expect("sent");
    reply.send_data("hello".into(), false).expect("sent");
    let answer = head(&mut client).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    let accept = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
    assert!(answer.contains(accept), "{answer}");
    assert!(answer.contains("set-cookie: "), "{answer}");
    assert_eq!(read(&mut client, 5).await, b"hello");
    let mut from_client = asked.into_body();
    assert_eq!(data(&mut from_client).await, "early");
    client.write_all(b"more").await.expect("written");
    assert_eq!(data(&mut from_client).await, "more");
    let listed = lab.connections.relayed();
    assert_eq!(listed.len(), 1);
    reply.send_data(Bytes::new(), true).expect("sent");
    assert_eq!(client.read(&mut [0; 1]).await.expect("an end"), 0);
    drop(client);
    while let Some(rest) = from_client.data().await {
        assert_eq!(rest.expect("no reset"), "");
    }
    lab.empty().await;
}

#[tokio::test]
async fn a_web_socket_over_http2_is_one_to_its_target() {
    let lab = lab(Protocol::Https).await;
    let mut client = Client::new(&lab).await;
    client.ready().await;
    let request = Request::connect("https://a.test/chat")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(h2::ext::Protocol::from_static("websocket"));
    let request = request.body(()).expect("a request");
    let (answer, mut talk) = client.sender.send_request(request, false).expect("sent");
    let mut target = Target::accept_web_sockets(&lab).await;
    let (asked, mut respond) = asked_for(&mut target).await;
    assert_eq!(asked.headers()["sec-websocket-protocol"], "chat");
    let opened = Response::builder().header("sec-websocket-protocol", "chat");
    let mut reply = respond
        .send_response(opened.body(()).expect("an answer"), false)
        .expect("sent");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    let (mut from_client, mut from_target) = (asked.into_body(), answer.into_body());
    talk.send_data("ping".into(), false).expect("sent");
    assert_eq!(data(&mut from_client).await, "ping");
    reply.send_data("pong".into(), false).expect("sent");
    assert_eq!(data(&mut from_target).await, "pong");
    // A reset on one side is one on the other.
    reply.send_reset(Reason::CANCEL);
    let broken = from_target.data().await.expect("a reset");
    assert_eq!(broken.expect_err("a reset").reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_web_socket_that_a_target_does_not_want() {
    let lab = lab(Protocol::Http).await;
    let mut client = lab.dial().await;
    client.write_all(UPGRADE.as_bytes()).await.expect("written");
    let mut target = Target::accept_web_sockets(&lab).await;
    let (_asked, mut respond) = asked_for(&mut target).await;
    let answer = Response::builder().status(403).header("content-length", 4);
    let answer = answer.body(()).expect("an answer");
    let mut reply = respond.send_response(answer, false).expect("sent");
    reply.send_data("no, ".into(), true).expect("sent");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(read(&mut client, 4).await, b"no, ");
    // A protocol that was not offered is not believed.
    client.write_all(UPGRADE.as_bytes()).await.expect("written");
    let mut target = Target::accept_web_sockets(&lab).await;
    let (_asked, mut respond) = asked_for(&mut target).await;
    let answer = Response::builder().header("sec-websocket-protocol", "other");
    let answer = answer.body(()).expect("an answer");
    let _reply = respond.send_response(answer, false).expect("sent");
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    // One that does not say that it takes any is not asked.
    let mut client = lab.dial().await;
    client.write_all(UPGRADE.as_bytes()).await.expect("written");
    let _target = Target::accept(&lab).await;
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
