//! What the access log says of requests' bodies: what had gone to the target when the line
//! was written, whatever the order of upload and answer; and of what never got so far.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::cut_tests::Logged;
use super::http1_tests::{POST, asked, send};
use super::http2::lab::Client;
use super::tls_lab::{UPGRADE, limits, listener, read};
use crate::config::{Limits, Listener, Protocol, TargetProtocol};

const HOUR: Duration = Duration::from_secs(3600);
/// A slow client's handshake may take this long.
const STILL: Duration = Duration::from_millis(200);
/// More than is read at once.
const PIECE: usize = 200_000;

async fn logged(protocol: Protocol, target: Option<TargetProtocol>) -> Logged {
    let listener = Listener {
        protocol,
        ..listener(HOUR)
    };
    Logged::toward(listener, limits(), |_, group| {
        if let Some(protocol) = target {
            group.protocol = protocol;
        }
    })
    .await
}

#[tokio::test]
async fn an_upload_that_goes_on_behind_the_head_of_the_answer_is_counted() {
    let logged = logged(Protocol::Http, None).await;
    let begin = format!("{POST}Content-Length: {}\r\n\r\nfirst", 5 + PIECE);
    let (mut client, mut target, _) = asked(&logged.lab, begin).await;
    assert_eq!(read(&mut target, 5).await, b"first");
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nea";
    send(&mut target, early).await;
    let mut answer = String::new();
    while !answer.ends_with("ea") {
        answer.push(char::from(client.read_u8().await.expect("an answer")));
    }
    let rest = vec![b'x'; PIECE];
    let (_, arrived) = tokio::join!(send(&mut client, &rest), read(&mut target, PIECE));
    assert!(arrived == rest);
    send(&mut target, "ly").await;
    let line = logged.line().await;
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(line["bytes_in"], 5 + PIECE, "{line}");
    assert_eq!(line["bytes_out"], 4, "{line}");
}

#[tokio::test]
async fn an_upload_whose_client_leaves_is_counted() {
    let logged = logged(Protocol::Http, None).await;
    let begin = format!("{POST}Content-Length: 1000\r\n\r\nfirst");
    let (client, mut target, _) = asked(&logged.lab, begin).await;
    assert_eq!(read(&mut target, 5).await, b"first");
    client.set_zero_linger().expect("an option");
    drop(client);
    let line = logged.line().await;
    assert_eq!(line["bytes_in"], 5, "{line}");
    assert_ne!(line["status"], 200, "{line}");
}

#[tokio::test]
async fn a_grpc_call_that_streams_both_ways_is_counted() {
    let logged = logged(Protocol::Https, Some(TargetProtocol::H2c)).await;
    let mut client = Client::new(&logged.lab).await;
    client.ready().await;
    let call = Request::post("https://a.test/chat.Chat/Talk").header("te", "trailers");
    let call = call.body(()).expect("a request");
    let (answer, mut talk) = client.sender.send_request(call, false).expect("sent");
    let (stream, _) = logged.lab.targets.accept().await.expect("accepted");
    let mut target = h2::server::handshake(stream).await.expect("a connection");
    let (asked, mut respond) = target.accept().await.expect("a call").expect("no reset");
    let driver = tokio::spawn(async move { while let Some(Ok(_)) = target.accept().await {} });
    let mut reply = respond
        .send_response(Response::new(()), false)
        .expect("sent");
    let mut from_target = answer.await.expect("an answer").into_body();
    let mut from_client = asked.into_body();
    for round in ["one", "two", "three"] {
        talk.send_data(round.into(), false).expect("sent");
        let arrived = from_client.data().await.expect("data").expect("no reset");
        assert_eq!(arrived, round);
        reply.send_data(round.into(), false).expect("sent");
        let arrived = from_target.data().await.expect("data").expect("no reset");
        assert_eq!(arrived, round);
    }
    talk.send_data(Bytes::new(), true).expect("sent");
    reply.send_data(Bytes::new(), true).expect("sent");
    let line = logged.line().await;
    assert_eq!(line["version"], "HTTP/2.0", "{line}");
    assert_eq!(line["bytes_in"], 11, "{line}");
    assert_eq!(line["bytes_out"], 11, "{line}");
    driver.abort();
}

#[tokio::test]
async fn an_upgrade_names_the_target_that_could_not_be_reached() {
    let mut logged = logged(Protocol::Http, None).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let gone = std::mem::replace(&mut logged.lab.targets, elsewhere);
    let address = gone.local_addr().expect("an address").to_string();
    drop(gone);
    let mut client = logged.lab.dial().await;
    send(&mut client, UPGRADE).await;
    let line = logged.line().await;
    assert_eq!(line["origin"], "balancer", "{line}");
    assert_eq!(line["target"], address, "{line}");
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    for (reason, words) in [
        ("tls_handshake", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("client_slow", b""),
        ("tls_handshakes_per_source", b""),
    ] {
        let crowded = reason == "tls_handshakes_per_source";
        let limits = Limits {
            tls_handshakes_per_source: u32::from(crowded),
            tls_handshake_timeout: if crowded { HOUR } else { STILL },
            ..limits()
        };
        let listener = Listener {
            protocol: Protocol::Tls,
            ..listener(HOUR)
        };
        let logged = Logged::toward(listener, limits, |_, _| {}).await;
        let mut client = logged.lab.dial().await;
        send(&mut client, words).await;
        let _another = match crowded {
            true => Some(logged.lab.try_dial().await),
            false => None,
        };
        let line = logged.line().await;
        assert_eq!(line["fault"], reason, "{line}");
    }
}
