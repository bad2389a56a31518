//! WebSockets over HTTP/2 (RFC 8441) to a target that knows HTTP/1.1 only.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::lab::{Client, get};
use crate::config::{self, Limits};
use crate::dataplane::Refusal;
use crate::proxy::tls_lab::{Lab, head, limits, read};
use crate::proxy::websocket::accept;

const HOUR: Duration = Duration::from_secs(3600);

/// An open WebSocket: the client's side of it and the target's.
struct Open {
    client: Client,
    answer: Response<()>,
    to_balancer: SendStream<Bytes>,
    from_balancer: RecvStream,
    target: TcpStream,
}

fn ask(version: &str) -> http::request::Builder {
    Request::connect("https://a.test/chat")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", version)
        .header("sec-websocket-protocol", "one, two")
        .header("origin", "https://a.test")
}

/// The target's answer to what it has been asked.
fn switched(asked: &str) -> String {
    let key = asked
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .expect("a key");
    let accept = accept(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: two\r\n\r\n"
    )
}

/// Opens one on a connection of its own.
async fn open(lab: &Lab) -> Open {
    let mut client = Client::new(lab).await;
    client.extended().await;
    let request = ask("13").body(()).expect("a request");
    let (answer, to_balancer) = client.sender.send_request(request, false).expect("sent");
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    let asked = head(&mut target).await;
    assert!(asked.starts_with("GET /chat HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: a.test\r\n"), "{asked}");
    assert!(asked.contains("upgrade: websocket\r\n"), "{asked}");
    assert!(asked.contains("origin: https://a.test\r\n"), "{asked}");
    let answered = format!("{}hello", switched(&asked));
    target
        .write_all(answered.as_bytes())
        .await
        .expect("written");
    let (head, mut from_balancer) = answer.await.expect("an answer").into_parts();
    assert_eq!(data(&mut from_balancer).await, b"hello");
    Open {
        client,
        answer: Response::from_parts(head, ()),
        to_balancer,
        from_balancer,
        target,
    }
}

async fn data(stream: &mut RecvStream) -> Vec<u8> {
    let data = stream.data().await.expect("data").expect("no reset");
    let released = stream.flow_control().release_capacity(data.len());
    released.expect("released");
    data.to_vec()
}

/// An end in order; it comes as a piece without bytes.
async fn ended(stream: &mut RecvStream) {
    while let Some(data) = stream.data().await {
        assert!(data.expect("no reset").is_empty());
    }
}

async fn reset_of(mut stream: RecvStream) -> Option<Reason> {
    let error = stream.data().await.expect("a reset").expect_err("a reset");
    error.reason()
}

#[tokio::test]
async fn opens_is_listed_and_its_halves_close_alone() {
    let lab = Lab::new(HOUR).await;
    let mut open = open(&lab).await;
    assert_eq!(open.answer.status(), StatusCode::OK);
    let headers = open.answer.headers();
    assert_eq!(headers["sec-websocket-protocol"], "two");
    assert!(headers.contains_key("set-cookie"));
    for hop in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!headers.contains_key(hop), "{headers:?}");
    }
    let listed = lab.connections.relayed();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reason(), Refusal::Http2);

    open.to_balancer
        .send_data("ping".into(), false)
        .expect("sent");
    assert_eq!(read(&mut open.target, 4).await, b"ping");
    open.target.write_all(b"pong").await.expect("written");
    assert_eq!(data(&mut open.from_balancer).await, b"pong");
    open.to_balancer
        .send_data(Bytes::new(), true)
        .expect("sent");
    assert_eq!(open.target.read(&mut [0; 1]).await.expect("an end"), 0);
    open.target.write_all(b"still here").await.expect("written");
    assert_eq!(data(&mut open.from_balancer).await, b"still here");
    drop(open.target);
    ended(&mut open.from_balancer).await;
    lab.empty().await;
    assert_eq!(listed[0].bytes(), (4, 19));
    let metrics = lab.metrics.render().expect("metrics");
    for line in [
        r#"limpet_upgrades_requested_total{listener="secure",target_group="chat"} 1"#,
        r#"limpet_upgrades_total{listener="secure",result="accepted",target_group="chat"} 1"#,
        r#"code="200",listener="secure",origin="target",target_group="chat"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn much_data_both_ways_is_held_back_by_windows() {
    let lab = Lab::new(HOUR).await;
    let mut open = open(&lab).await;
    let sent: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    let (mut from_target, mut to_target) = open.target.into_split();
    let wanted = sent.clone();
    let echo = tokio::spawn(async move {
        tokio::io::copy(&mut from_target, &mut to_target)
            .await
            .expect("copied");
    });
    let sending = async {
        let mut rest = Bytes::from(wanted.clone());
        while !rest.is_empty() {
            open.to_balancer.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| open.to_balancer.poll_capacity(cx)).await;
            let room = room.expect("open").expect("room");
            let part = rest.split_to(room.min(rest.len()));
            open.to_balancer
                .send_data(part, rest.is_empty())
                .expect("sent");
        }
    };
    let reading = async {
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            got.extend(data(&mut open.from_balancer).await);
        }
        got
    };
    let ((), got) = tokio::join!(sending, reading);
    assert!(got == sent, "not as sent");
    echo.await.expect("the echo ends");
}

#[tokio::test]
async fn resets_are_passed_on_as_resets() {
    let lab = Lab::new(HOUR).await;
    let mut one = open(&lab).await;
    one.to_balancer.send_reset(Reason::CANCEL);
    let error = one.target.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let other = open(&lab).await;
    let linger = SockRef::from(&other.target).set_linger(Some(Duration::ZERO));
    linger.expect("linger");
    drop(other.target);
    assert_eq!(reset_of(other.from_balancer).await, Some(Reason::CANCEL));
    lab.empty().await;
}

#[tokio::test]
async fn the_end_of_its_connection_ends_it() {
    let lab = Lab::new(HOUR).await;
    let mut open = open(&lab).await;
    open.client.connection.abort();
    drop((open.client, open.to_balancer, open.from_balancer));
    assert!(open.target.read(&mut [0; 1]).await.is_err());
    lab.empty().await;
}

#[tokio::test]
async fn without_payload_it_ends_with_a_reset() {
    let lab = Lab::new(Duration::from_secs(1)).await;
    let open = open(&lab).await;
    assert_eq!(reset_of(open.from_balancer).await, Some(Reason::CANCEL));
    lab.empty().await;
}

/// The status that a client gets which asks so, for this answer of the target.
#[tokio::test]
async fn one_has_its_place_as_long_as_it_is_open() {
    let limits = Limits {
        max_connections: 1,
        ..limits()
    };
    let lab = Lab::with(config::Protocol::Https, HOUR, limits).await;
    let mut open = open(&lab).await;
    let refused = open.client.get(get("/")).await.await.expect_err("a reset");
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
    open.to_balancer.send_reset(Reason::CANCEL);
    // Its end is noticed a moment later.
    loop {
        let answer = open.client.get(get("/")).await;
        tokio::select! {
            accepted = lab.targets.accept() => return drop(accepted.expect("accepted")),
            answer = answer => drop(answer.expect_err("a reset")),
        }
    }
}

async fn status(request: http::request::Builder, answer: Option<&[u8]>) -> u16 {
    let lab = Lab::new(HOUR).await;
    let mut client = Client::new(&lab).await;
    client.extended().await;
    let request = request.body(()).expect("a request");
    let (asked, _stream) = client.sender.send_request(request, false).expect("sent");
    if let Some(answer) = answer {
        let (mut target, _) = lab.targets.accept().await.expect("accepted");
        head(&mut target).await;
        target.write_all(answer).await.expect("written");
    }
    let answer = asked.await.expect("an answer");
    assert_eq!(lab.connections.count(), 0);
    answer.status().as_u16()
}

#[tokio::test]
async fn nothing_but_a_verified_101_opens_one() {
    let forged = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(status(ask("13"), Some(forged)).await, 502);
    // To the client any success would be an open WebSocket.
    let success = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(status(ask("13"), Some(success)).await, 502);
    let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(status(ask("13"), Some(refused)).await, 403);
    assert_eq!(status(ask("8"), None).await, 426);
    let other = Request::connect("https://a.test/").extension(Protocol::from_static("tcp"));
    assert_eq!(status(other, None).await, 501);
}
