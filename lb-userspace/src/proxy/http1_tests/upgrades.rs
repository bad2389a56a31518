//! Upgrades: the answers before the 101, and what must open no tunnel.

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{OK, PATIENCE, asked, lab, send, unasked};
use crate::proxy::tls_lab::{SWITCHED, UPGRADE, head, read};

#[tokio::test]
async fn informational_answers_come_before_the_one_that_counts() {
    let lab = lab().await;
    let early = "HTTP/1.1 100 Continue\r\n\r\n\
                 HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, UPGRADE).await;
    send(&mut target, early).await;
    send(&mut target, SWITCHED).await;
    send(&mut target, "hello").await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    assert_eq!(read(&mut client, 5).await, b"hello");
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    send(&mut target, early).await;
    send(&mut target, OK).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
}

#[tokio::test]
async fn a_body_with_the_upgrade_opens_nothing() {
    let lab = lab().await;
    let with = |header: &str, body: &str| {
        let head = UPGRADE.strip_suffix("\r\n").expect("an end");
        format!("{head}{header}\r\n\r\n{body}")
    };
    for request in [
        with("Content-Length: 5", "hello"),
        with("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut client = lab.dial().await;
        send(&mut client, request).await;
        let mut told = String::new();
        client.read_to_string(&mut told).await.expect("an answer");
        assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
        assert_eq!(told.matches("HTTP/1.1").count(), 1, "{told}");
        unasked(&lab);
    }
}

#[tokio::test]
async fn a_101_that_was_not_asked_for_is_no_tunnel() {
    let lab = lab().await;
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    send(&mut target, SWITCHED).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
    // The connection to the target is of no use any more.
    let ended = timeout(PATIENCE, target.read_u8()).await.expect("an end");
    assert!(ended.is_err(), "{ended:?}");
    assert!(lab.connections.relayed().is_empty());
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_its_answer() {
    let lab = lab().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, format!("{UPGRADE}{smuggled}")).await;
    // Nothing of them has been sent, neither here nor on another connection.
    send(
        &mut target,
        "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 426 "), "{told}");
    let mut rest = Vec::new();
    target.read_to_end(&mut rest).await.expect("an end");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    // They are a request of its own, as they would be without the one before.
    let (mut other, _) = lab.targets.accept().await.expect("accepted");
    let asked = head(&mut other).await;
    assert!(asked.starts_with("GET /smuggled HTTP/1.1\r\n"), "{asked}");
}
