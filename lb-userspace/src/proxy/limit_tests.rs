//! What a client may take: connections, handshakes, time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tls_lab::{Lab, head, limits, read};
use crate::config::{Limits, Protocol};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Answers one request of a connection to a target.
async fn answer(target: &mut TcpStream) {
    head(target).await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    target.write_all(answer).await.expect("written");
}

#[tokio::test]
async fn an_old_connection_is_told_to_end_with_its_next_answer() {
    for (lifetime, lasts) in [(Duration::ZERO, false), (HOUR, true)] {
        let limits = Limits {
            connection_lifetime: lifetime,
            ..limits()
        };
        let lab = Lab::with(Protocol::Http, HOUR, limits).await;
        let mut client = lab.dial().await;
        client.write_all(GET).await.expect("written");
        let (mut target, _) = lab.targets.accept().await.expect("accepted");
        answer(&mut target).await;
        let answered = head(&mut client).await;
        assert_eq!(read(&mut client, 2).await, b"hi");
        assert_eq!(!answered.contains("connection: close"), lasts, "{answered}");
        if lasts {
            client.write_all(GET).await.expect("written");
            answer(&mut target).await;
            head(&mut client).await;
        } else {
            assert_eq!(client.read(&mut [0; 1]).await.expect("an end"), 0);
        }
    }
}

#[tokio::test]
async fn an_upgraded_connection_has_no_lifetime() {
    let limits = Limits {
        connection_lifetime: Duration::ZERO,
        ..limits()
    };
    let lab = Lab::with(Protocol::Https, HOUR, limits).await;
    let (mut client, mut target) = lab.tunnel().await;
    for _ in 0..3 {
        client.write_all(b"ping").await.expect("written");
        assert_eq!(read(&mut target, 4).await, b"ping");
    }
}

/// Two connections, of which one is reset; the other is given back.
async fn reset_one(lab: &Lab) -> TcpStream {
    let mut one = lab.dial().await;
    let mut other = match lab.try_dial().await {
        Ok(other) => other,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return one,
        Err(error) => panic!("{error}"),
    };
    let resets = async {
        tokio::select! {
            read = one.read_u8() => (read, true),
            read = other.read_u8() => (read, false),
        }
    };
    let (read, first) = tokio::time::timeout(PATIENCE, resets)
        .await
        .expect("a reset");
    let error = read.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    if first { other } else { one }
}

async fn counted(lab: &Lab, reason: &str) {
    let line = format!("limpet_rejected_total{{listener=\"secure\",reason=\"{reason}\"}} 1");
    let counted = async {
        while !lab.metrics.render().expect("text").contains(&line) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect(reason);
}

#[tokio::test]
async fn a_source_has_its_share_of_connections() {
    let limits = Limits {
        max_connections_per_source: 1,
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let held = reset_one(&lab).await;
    counted(&lab, "max_connections_per_source").await;
    drop(held);
    // Its end is noticed a moment later.
    let again = async {
        loop {
            // Until then each step may be met by a reset.
            let Ok(mut client) = lab.try_dial().await else {
                continue;
            };
            let _ = client.write_all(GET).await;
            tokio::select! {
                accepted = lab.targets.accept() => return accepted.expect("accepted").0,
                read = client.read_u8() => assert!(read.is_err(), "{read:?}"),
            }
        }
    };
    let mut target = tokio::time::timeout(PATIENCE, again).await.expect("room");
    head(&mut target).await;
}

/// Waits until another client gets in over TLS.
async fn gets_in(lab: &Lab) {
    let again = async { while lab.try_client().await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("room");
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_until_it_ends() {
    let limits = Limits {
        max_connections_per_source: 1,
        ..limits()
    };
    let lab = Lab::with(Protocol::Https, HOUR, limits).await;
    let (client, target) = lab.tunnel().await;
    let refused = async { lab.try_dial().await?.read_u8().await };
    let error = refused.await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    drop((client, target));
    gets_in(&lab).await;
}

#[tokio::test]
async fn a_source_shakes_so_many_hands_at_a_time() {
    let limits = Limits {
        tls_handshakes_per_source: 1,
        ..limits()
    };
    let lab = Lab::with(Protocol::Https, HOUR, limits).await;
    // Who has shaken hands is in nobody's way.
    let _both = (lab.tunnel().await, lab.tunnel().await);
    let silent = reset_one(&lab).await;
    counted(&lab, "tls_handshakes_per_source").await;
    drop(silent);
    gets_in(&lab).await;
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let limits = Limits {
        tls_handshake_timeout: Duration::from_millis(20),
        header_timeout: HOUR,
        ..limits()
    };
    let lab = Lab::with(Protocol::Https, HOUR, limits).await;
    let mut silent = lab.dial().await;
    assert_eq!(silent.read(&mut [0; 1]).await.expect("an end"), 0);
    counted(&lab, "client_slow").await;
}
