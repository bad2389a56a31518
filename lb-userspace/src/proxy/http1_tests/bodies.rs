//! Bodies: when they pass, piece by piece, and who waits for whom.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{FLOOD, HOUR, OK, PATIENCE, POST, asked, lab, lines, piece, send, unasked};
use crate::config::{Limits, Protocol};
use crate::proxy::tls_lab::{Lab, head, limits, read};

#[tokio::test]
async fn continue_100_is_said_once_the_target_takes_the_body() {
    let lab = lab().await;
    let request = format!("{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let (mut client, mut target, asked) = asked(&lab, request).await;
    assert_eq!(lines(&asked.to_lowercase(), "expect"), [""; 0], "{asked}");
    let told = head(&mut client).await;
    assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
    send(&mut client, "hello").await;
    assert_eq!(read(&mut target, 5).await, b"hello");
    send(&mut target, OK).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_body() {
    let lab = lab().await;
    let request = format!("{POST}Content-Length: 1000000\r\n\r\nbegun");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let no = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    assert_eq!(read(&mut target, 5).await, b"begun");
    send(&mut target, no).await;
    let told = head(&mut client).await;
    assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{told}");
    assert_eq!(read(&mut client, 2).await, b"no");
    // What follows is the body still, whatever it looks like.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    send(&mut client, smuggled).await;
    let more = read(&mut target, smuggled.len()).await;
    assert_eq!(more, smuggled.as_bytes());
    drop(target);
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    // In order or with a reset.
    let _ = ended.expect("an end");
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    unasked(&lab);
}

#[tokio::test]
async fn a_body_may_take_its_time_after_an_early_answer() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        ..limits()
    };
    let lab = Lab::with(Protocol::Http, HOUR, limits).await;
    let request = format!("{POST}Content-Length: 10\r\n\r\nbegun");
    let (mut client, mut target, _) = asked(&lab, request).await;
    assert_eq!(read(&mut target, 5).await, b"begun");
    send(&mut target, OK).await;
    head(&mut client).await;
    assert_eq!(read(&mut client, 2).await, b"hi");
    send(&mut client, "h").await;
    assert_eq!(read(&mut target, 1).await, b"h");
    // Far longer than a head may take: it is not taken for the begin of one.
    let told = timeout(Duration::from_secs(1), client.read_u8()).await;
    assert!(told.is_err(), "{told:?}");
    send(&mut client, "alf!").await;
    assert_eq!(read(&mut target, 4).await, b"alf!");
}

#[tokio::test]
async fn bodies_stream_both_ways_piece_by_piece() {
    let lab = lab().await;
    let request = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    send(&mut target, begin).await;
    head(&mut client).await;
    // Each piece is answered before the next one is sent.
    for number in 0..100 {
        let piece = format!("4\r\n{number:04}\r\n");
        send(&mut client, &piece).await;
        assert_eq!(read(&mut target, piece.len()).await, piece.as_bytes());
        send(&mut target, &piece).await;
        assert_eq!(read(&mut client, piece.len()).await, piece.as_bytes());
    }
    send(&mut client, "0\r\n\r\n").await;
    assert_eq!(read(&mut target, 5).await, b"0\r\n\r\n");
    send(&mut target, "0\r\n\r\n").await;
    assert_eq!(read(&mut client, 5).await, b"0\r\n\r\n");
}

#[tokio::test]
async fn a_body_that_nobody_takes_stops_its_sender() {
    let piece = piece();
    let lab = lab().await;
    let request = format!("{POST}Content-Length: {FLOOD}\r\n\r\n");
    let (mut client, mut target, _) = asked(&lab, request).await;
    let written = flood(&mut client, &piece).await;
    assert!(written < FLOOD, "all of it was buffered");
    drain(&mut target, &piece, written).await;
    // The same the other way.
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    send(&mut target, begin).await;
    head(&mut client).await;
    let written = flood(&mut target, &piece).await;
    assert!(written < FLOOD, "all of it was buffered");
    drain(&mut client, &piece, written).await;
}

/// Writes until nothing more is taken for a while; how much was.
async fn flood(stream: &mut TcpStream, piece: &[u8]) -> usize {
    let mut written = 0;
    while written < FLOOD {
        let at = written % piece.len();
        let write = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, &piece[at..]));
        match timeout(Duration::from_millis(500), write).await {
            Ok(count) => written += count.expect("written"),
            Err(_) => return written,
        }
    }
    written
}

/// Reads what `flood` has written.
async fn drain(stream: &mut TcpStream, piece: &[u8], mut left: usize) {
    let mut place = 0;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        let count = stream.read(&mut buffer[..most]).await.expect("read");
        assert!(count > 0, "{left} bytes are missing");
        for byte in &buffer[..count] {
            assert_eq!(*byte, piece[place % piece.len()], "at {place}");
            place += 1;
        }
        left -= count;
    }
}
