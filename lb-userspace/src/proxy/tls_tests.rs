//! Requests and tunnels over TLS, between a real client and a scripted target.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tls_lab::{Lab, head, limits, listener, read};
use crate::config::{Listener, Protocol};
use crate::dataplane::Refusal;
use crate::tls;

const HOUR: Duration = Duration::from_secs(3600);
/// Far more than the buffers of sockets and of TLS hold.
const FLOOD: usize = 24 << 20;

#[tokio::test]
async fn a_request() {
    let lab = Lab::new(HOUR).await;
    let mut client = lab.client().await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.expect("written");
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    let asked = head(&mut target).await;
    assert!(asked.contains("x-forwarded-proto: https\r\n"), "{asked}");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    target.write_all(answer).await.expect("written");
    let mut answer = String::new();
    // An end without close_notify would be an error.
    client.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("; SameSite=Lax; Secure\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
}

#[tokio::test]
async fn tls_ends_here_and_tcp_goes_on() {
    let lab = Lab::of(Protocol::Tls, HOUR).await;
    let mut client = lab.client().await;
    client.write_all(b"hi").await.expect("written");
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    assert_eq!(read(&mut target, 2).await, b"hi");
    target.write_all(b"ho").await.expect("written");
    assert_eq!(read(&mut client, 2).await, b"ho");
    assert_eq!(lab.connections.relayed()[0].reason(), Refusal::Tls);
    client.shutdown().await.expect("shut down");
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    drop(target);
    assert_eq!(client.read(&mut [0; 1]).await.expect("a close_notify"), 0);
    lab.empty().await;
}

#[tokio::test]
async fn a_client_that_leaves_first_is_counted_as_460() {
    let lab = Lab::new(HOUR).await;
    let mut client = lab.client().await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client.write_all(request).await.expect("written");
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    drop(client);
    // Its request is taken back from the target.
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    let counted = r#"code="460",listener="secure",origin="balancer",target_group="chat"} 1"#;
    lab.counted(counted).await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole_however_slowly_it_is_read() {
    // Made beforehand: it takes its time, and everything here is one thread.
    let wanted = pattern(FLOOD);
    let sent = wanted.clone();
    let lab = Lab::new(HOUR).await;
    let mut client = lab.client().await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.expect("written");
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    let writer = tokio::spawn(async move {
        target.write_all(head.as_bytes()).await.expect("written");
        target.write_all(&sent).await.expect("written");
    });
    super::tls_lab::head(&mut client).await;
    let mut body = Vec::new();
    client.read_to_end(&mut body).await.expect("a body");
    assert!(body == wanted, "{} bytes, not as sent", body.len());
    writer.await.expect("the writer ends");
}

#[tokio::test]
async fn an_idle_connection_ends_in_order() {
    let lab = Lab::new(Duration::from_millis(50)).await;
    let mut client = lab.client().await;
    assert_eq!(client.read(&mut [0; 1]).await.expect("a close_notify"), 0);
}

#[tokio::test]
async fn plain_http_is_refused_and_counted() {
    let lab = Lab::new(HOUR).await;
    let mut client = lab.dial().await;
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an alert");
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    let metrics = lab.metrics.render().expect("text");
    let counted = "limpet_rejected_total{listener=\"secure\",reason=\"tls_handshake\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_tunnel_is_listed_and_its_halves_close_alone() {
    let lab = Lab::new(HOUR).await;
    let (mut client, mut target) = lab.tunnel().await;
    let listed = lab.connections.relayed();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reason(), Refusal::Tls);
    client.write_all(b"ping").await.expect("written");
    assert_eq!(read(&mut target, 4).await, b"ping");
    target.write_all(b"pong").await.expect("written");
    assert_eq!(read(&mut client, 4).await, b"pong");
    client.shutdown().await.expect("half closed");
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    target.write_all(b"still here").await.expect("written");
    assert_eq!(read(&mut client, 10).await, b"still here");
    assert!(listed[0].closing());
    target.shutdown().await.expect("half closed");
    assert_eq!(client.read(&mut [0; 1]).await.expect("a close_notify"), 0);
    lab.empty().await;
    assert_eq!(listed[0].bytes(), (9, 19));
}

#[tokio::test]
async fn the_targets_half_may_close_first() {
    let lab = Lab::new(HOUR).await;
    let (mut client, mut target) = lab.tunnel().await;
    target.shutdown().await.expect("half closed");
    assert_eq!(client.read(&mut [0; 1]).await.expect("a close_notify"), 0);
    client.write_all(b"still here").await.expect("written");
    assert_eq!(read(&mut target, 10).await, b"still here");
    client.shutdown().await.expect("half closed");
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    lab.empty().await;
}

#[tokio::test]
async fn a_fin_without_close_notify_is_an_end_too() {
    let lab = Lab::new(HOUR).await;
    let (client, mut target) = lab.tunnel().await;
    drop(client);
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    target.shutdown().await.expect("half closed");
    lab.empty().await;
}

#[tokio::test]
async fn resets_are_passed_on_as_resets() {
    let lab = Lab::new(HOUR).await;
    let (mut client, target) = lab.tunnel().await;
    reset(target);
    let error = client.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let (client, mut target) = lab.tunnel().await;
    reset(client.into_inner().0);
    let error = target.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    lab.empty().await;
}

#[tokio::test]
async fn bytes_that_are_not_tls_reset_both_sides() {
    let lab = Lab::new(HOUR).await;
    let (client, mut target) = lab.tunnel().await;
    let (mut socket, _session) = client.into_inner();
    socket.write_all(&[0xff; 64]).await.expect("written");
    let error = target.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    lab.empty().await;
}

#[tokio::test]
async fn slow_readers_slow_the_writers_and_lose_nothing() {
    let lab = Lab::new(HOUR).await;
    let (client, target) = lab.tunnel().await;
    let (mut from_client, mut to_target) = tokio::io::split(client);
    let (mut from_target, mut to_client) = target.into_split();
    // Neither writer ends its half: the last bytes must arrive without that.
    let inward = tokio::spawn(async move {
        to_target.write_all(&pattern(FLOOD)).await.expect("written");
        to_target.flush().await.expect("written");
        to_target
    });
    let outward = tokio::spawn(async move {
        to_client.write_all(&pattern(FLOOD)).await.expect("written");
        to_client
    });
    stalled(&lab).await;
    let received = read(&mut from_target, FLOOD).await;
    assert!(received == pattern(FLOOD), "inward, not as sent");
    let received = read(&mut from_client, FLOOD).await;
    assert!(received == pattern(FLOOD), "outward, not as sent");
    let mut to_target = inward.await.expect("the writer ends");
    to_target.shutdown().await.expect("half closed");
    drop(outward.await.expect("the writer ends"));
    lab.empty().await;
}

#[tokio::test]
async fn an_idle_tunnel_ends_with_resets() {
    let lab = Lab::new(Duration::from_millis(100)).await;
    let (mut client, mut target) = lab.tunnel().await;
    let error = client.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(target.read(&mut [0; 1]).await.is_err());
    lab.empty().await;
}

#[tokio::test]
async fn the_drain_deadline_closes_a_tunnel_in_order() {
    let lab = Lab::new(HOUR).await;
    let (mut client, mut target) = lab.tunnel().await;
    lab.drainer.start();
    lab.drainer.finish(Duration::from_millis(10)).await;
    assert_eq!(client.read(&mut [0; 1]).await.expect("a close_notify"), 0);
    assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

fn reset(socket: tokio::net::TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .expect("linger");
}

/// Waits until the relay has taken something and then nothing more, in both
/// directions.
async fn stalled(lab: &Lab) {
    let mut before = (5, 5);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = lab.connections.relayed()[0].bytes();
        if now == before && now.0 > 5 && now.1 > 5 {
            assert!(now.0 < FLOOD as u64 && now.1 < FLOOD as u64, "{now:?}");
            return;
        }
        before = now;
    }
}

#[tokio::test]
async fn targets_are_told_whose_certificate_it_was_and_nothing_else() {
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let lab = Lab::telling_subjects().await;
    // What is not ASCII is escaped, and cannot end a line.
    let odd = "al\u{ef}ce\r\nX: y";
    let told = "CN=al\\c3\\afce\\0d\\0aX: y,O=Example\\, Inc.";
    for upgrade in ["", UPGRADE] {
        for (mut client, subject) in [
            (
                lab.client_named("alice", tls::HTTP1).await,
                Some("CN=alice,O=Example\\, Inc."),
            ),
            (lab.client_named(odd, tls::HTTP1).await, Some(told)),
            (lab.client().await, None),
        ] {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a.test\r\nX-Client-Cert-Subject: CN=mallory\r\n\
                 {upgrade}X_Client_Cert_Subject: CN=mallory\r\n\r\n"
            );
            client.write_all(request.as_bytes()).await.expect("written");
            let (mut target, _) = lab.targets.accept().await.expect("accepted");
            let asked = head(&mut target).await;
            let subjects: Vec<&str> = asked
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(name, _)| {
                    name.to_lowercase().replace('_', "-") == "x-client-cert-subject"
                })
                .map(|(_, value)| value)
                .collect();
            assert_eq!(subjects, Vec::from_iter(subject), "{asked}");
        }
    }
}

#[tokio::test]
async fn http2_is_not_offered_where_it_is_off() {
    let listener = Listener {
        http2: false,
        ..listener(HOUR)
    };
    let lab = Lab::at(listener, limits()).await;
    let refused = lab.try_client_of(tls::HTTP2).await;
    let error = refused.expect_err("no common protocol");
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    lab.client_of(tls::HTTP1).await;
}
