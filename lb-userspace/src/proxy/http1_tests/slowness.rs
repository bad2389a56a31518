//! Clients that are slow: to say their head, to send their body, to read.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{FLOOD, HOUR, OK, PATIENCE, POST, asked, piece, send, unasked};
use crate::config::{Limits, Listener, Protocol};
use crate::proxy::tls_lab::{Lab, limits, listener};

#[tokio::test]
async fn a_slow_head_is_408_and_reaches_nobody() {
    let limits = Limits {
        header_timeout: Duration::from_millis(50),
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let mut client = lab.dial().await;
    send(&mut client, "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow:").await;
    let mut told = String::new();
    client.read_to_string(&mut told).await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    unasked(&lab);
}

#[tokio::test]
async fn a_slow_head_behind_another_request_is_408() {
    let mut all = JoinSet::new();
    for framing in [
        "\r\n",
        "Content-Length: 4\r\n\r\nbody",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        for (behind, late) in [
            ("GET / HTTP/1.1\r\nHost: a.te", true),
            ("G", true),
            ("\r\n", false),
            ("", false),
        ] {
            all.spawn(is_late(format!("{POST}{framing}{behind}"), late));
        }
    }
    all.join_all().await;
}

/// Sends no more than this, a whole request and what is behind it; whether that is too late,
/// or nothing.
async fn is_late(request: String, late: bool) {
    let lab = Lab::of(Protocol::Http, Duration::from_secs(1)).await;
    let (mut client, mut target, _) = asked(&lab, &request).await;
    send(&mut target, OK).await;
    let mut told = String::new();
    client.read_to_string(&mut told).await.expect("answers");
    let (first, second) = told.split_once("\r\n\r\nhi").expect("an answer");
    assert!(first.starts_with("HTTP/1.1 200 "), "{request:?}: {told}");
    if late {
        assert!(second.starts_with("HTTP/1.1 408 "), "{request:?}: {told}");
    } else {
        assert_eq!(second, "", "{request:?}");
    }
    let slow = r#"limpet_rejected_total{listener="secure",reason="client_slow"}"#;
    let metrics = lab.metrics.render().expect("metrics");
    assert_eq!(metrics.contains(slow), late, "{request:?}: {metrics}");
}

#[tokio::test]
async fn who_is_slow_to_say_who_the_client_is_gets_no_word() {
    let limits = Limits {
        header_timeout: Duration::from_millis(50),
        ..limits()
    };
    let listener = Listener {
        protocol: Protocol::Http,
        proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..listener(HOUR)
    };
    let lab = Lab::at(listener, limits).await;
    let begun = [
        "",
        "PROXY TCP4 198.51.100.7",
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    ];
    for (number, begun) in (1..).zip(begun) {
        let mut client = lab.dial().await;
        send(&mut client, begun).await;
        let ended = timeout(PATIENCE, client.read_u8()).await;
        // What was not taken yet makes the end a reset.
        assert!(ended.expect("an end").is_err(), "{begun:?}");
        let reason = r#"listener="secure",reason="client_slow""#;
        lab.counted(&format!("limpet_rejected_total{{{reason}}} {number}"))
            .await;
    }
    unasked(&lab);
}

#[tokio::test]
async fn a_slow_body_is_408_and_the_target_is_let_go() {
    let limits = Limits {
        // Long enough for the target to be asked on a busy machine.
        response_timeout: Duration::from_secs(1),
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let request = format!("{POST}Content-Length: 100\r\n\r\nbegun");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let mut told = String::new();
    client.read_to_string(&mut told).await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    let mut seen = Vec::new();
    timeout(PATIENCE, target.read_to_end(&mut seen))
        .await
        .expect("an end")
        .ok();
    assert_eq!(seen, b"begun");
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    let lab = Lab::of(Protocol::Http, Duration::from_secs(1)).await;
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut client, mut target, _) = asked(&lab, get).await;
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    send(&mut target, begin).await;
    let piece = piece();
    let writing = async {
        // It ends when the balancer has ended the client.
        while target.write_all(&piece).await.is_ok() {}
    };
    timeout(PATIENCE, writing).await.expect("an end");
    // Nothing is kept for it: after what it has already comes a reset.
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    let reset = ended.expect("an end").expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}
