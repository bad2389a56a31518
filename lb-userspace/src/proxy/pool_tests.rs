//! Connections to targets between requests, and with requests that their answers overtake.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::http1_tests::{GET, OK, PATIENCE, POST, asked, lab, send, unasked};
use super::tls_lab::{Lab, UPGRADE, head, limits, listener, read};
use crate::config::{Limits, Listener, Protocol, TargetConfig, TargetGroup};

#[tokio::test]
async fn one_that_is_free_is_used_again() {
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    for last in [false, false, true] {
        send(&mut target, OK).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(read(&mut client, 2).await, b"hi");
        if !last {
            send(&mut client, GET).await;
            head(&mut target).await;
        }
    }
    // Another client's may go over it, and without a body it is free as well.
    for _ in 0..2 {
        let mut other = lab.dial().await;
        send(&mut other, GET).await;
        head(&mut target).await;
        send(&mut target, "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(head(&mut other).await.starts_with("HTTP/1.1 204 "));
    }
    unasked(&lab);
}

#[tokio::test]
async fn one_that_its_target_has_closed_is_not_used_again() {
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    for _ in 0..3 {
        send(&mut target, OK).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(read(&mut client, 2).await, b"hi");
        drop(target);
        send(&mut client, GET).await;
        let accepted = timeout(PATIENCE, lab.targets.accept()).await;
        (target, _) = accepted.expect("a target is asked").expect("accepted");
        head(&mut target).await;
    }
}

/// A target that closes a kept connection with the next request already on it.
#[tokio::test]
async fn what_its_target_closes_with_a_request_on_it_is_asked_again_if_that_is_safe() {
    let lab = lab().await;
    let post = format!("{POST}Content-Length: 0\r\n\r\n");
    for (request, repeated) in [(GET, true), (&*post, false)] {
        let (mut client, mut target, _) = asked(&lab, GET).await;
        send(&mut target, OK).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(read(&mut client, 2).await, b"hi");
        send(&mut client, request).await;
        let heard = head(&mut target).await;
        drop(target);
        if repeated {
            let accepted = timeout(PATIENCE, lab.targets.accept()).await;
            let (mut fresh, _) = accepted.expect("it is asked again").expect("accepted");
            assert_eq!(head(&mut fresh).await, heard);
            // Not a second time: perhaps it is the request that breaks it.
            drop(fresh);
        }
        assert!(head(&mut client).await.starts_with("HTTP/1.1 502 "));
        unasked(&lab);
    }
}

#[tokio::test]
async fn one_in_use_is_not_used_by_others() {
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    send(&mut target, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh").await;
    head(&mut client).await;
    assert_eq!(read(&mut client, 1).await, b"h");
    let (_other, _another, _) = asked(&lab, GET).await;
    send(&mut target, "i").await;
    assert_eq!(read(&mut client, 1).await, b"i");
}

#[tokio::test]
async fn one_that_nobody_needs_is_closed() {
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    send(&mut target, OK).await;
    head(&mut client).await;
    let end = timeout(PATIENCE, target.read(&mut [0])).await;
    assert_eq!(end.expect("closed").expect("in order"), 0);
}

#[tokio::test]
async fn an_upload_goes_on_whether_its_answer_is_read_or_not() {
    const UPLOAD: usize = 16_000_000;
    let lab = lab().await;
    let request = format!("{POST}Content-Length: {UPLOAD}\r\n\r\n");
    let (client, mut target, _) = asked(&lab, request).await;
    let (mut answer, mut upload) = client.into_split();
    let uploading = tokio::spawn(async move {
        upload.write_all(&vec![b'u'; UPLOAD]).await.expect("sent");
        upload
    });
    let early = format!("HTTP/1.1 200 OK\r\nContent-Length: {UPLOAD}\r\n\r\n");
    let (mut from, mut to) = target.split();
    to.write_all(early.as_bytes()).await.expect("sent");
    let answering = async { to.write_all(&vec![b'a'; UPLOAD]).await.expect("sent") };
    let reading = async {
        let mut uploaded = vec![0; UPLOAD];
        let read = timeout(PATIENCE, from.read_exact(&mut uploaded)).await;
        read.expect("it goes on").expect("read");
        assert!(uploaded.iter().all(|byte| *byte == b'u'));
        // Only now does the client read.
        let mut told = Vec::new();
        while told.len() < early.len() + UPLOAD {
            let read = timeout(PATIENCE, answer.read_buf(&mut told)).await;
            assert_ne!(read.expect("in time").expect("read"), 0);
        }
        assert!(told.ends_with(&[b'a'; 1000]));
    };
    tokio::join!(answering, reading);
    uploading.await.expect("no panic");
}

#[tokio::test]
async fn what_came_of_an_answer_before_it_broke_is_passed_on() {
    let lab = lab().await;
    let (mut client, mut target, _) = asked(&lab, GET).await;
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    send(&mut target, cut).await;
    drop(target);
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let mut told = Vec::new();
    let end = timeout(PATIENCE, client.read_to_end(&mut told)).await;
    // In order or by a reset: the length says that it is not whole.
    let _ = end.expect("it ends");
    assert_eq!(told, b"abc");
}

/// The kernel takes no more for it, and nobody hears whether the client has gone.
#[tokio::test]
async fn an_upload_that_its_target_does_not_take_is_not_kept() {
    let listener = Listener {
        protocol: Protocol::Http,
        ..listener(Duration::from_secs(1))
    };
    let alone = |_: &_, group: &mut TargetGroup| group.max_connections = 1;
    let lab = Lab::toward(listener, limits(), alone).await;
    let request = format!("{POST}Content-Length: {}\r\n\r\n", u32::MAX);
    let (mut client, mut target, _) = asked(&lab, request).await;
    send(&mut target, OK).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let push = async { while client.write_all(&[b'u'; 65_536]).await.is_ok() {} };
    timeout(PATIENCE, push).await.expect("an end");
    // Until it is over its target takes nobody else.
    asked(&lab, GET).await;
}

/// A client that may be the only one, and has been answered by this target.
async fn answered(lab: &Lab, targets: [&TcpListener; 2]) -> (TcpStream, TcpStream, usize) {
    let mut client = lab.dial().await;
    send(&mut client, GET).await;
    let (mut target, which) = accepted(targets).await;
    head(&mut target).await;
    send(&mut target, OK).await;
    head(&mut client).await;
    assert_eq!(read(&mut client, 2).await, b"hi");
    (client, target, which)
}

async fn accepted([one, other]: [&TcpListener; 2]) -> (TcpStream, usize) {
    tokio::select! {
        accepted = one.accept() => (accepted.expect("accepted").0, 0),
        accepted = other.accept() => (accepted.expect("accepted").0, 1),
    }
}

fn alone() -> (Listener, Limits) {
    let listener = Listener {
        protocol: Protocol::Http,
        ..listener(Duration::from_secs(3600))
    };
    let limits = Limits {
        max_connections: 1,
        ..limits()
    };
    (listener, limits)
}

/// Well before it would go by itself.
async fn goes_at_once(mut target: TcpStream) {
    let end = timeout(Duration::from_secs(2), target.read(&mut [0])).await;
    assert_eq!(end.expect("closed").expect("in order"), 0);
}

#[tokio::test]
async fn one_that_is_idle_makes_way_for_a_tunnel() {
    let (listener, limits) = alone();
    let lab = Lab::at(listener, limits).await;
    let none = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let (mut client, idle, _) = answered(&lab, [&lab.targets, &none]).await;
    send(&mut client, UPGRADE).await;
    let (mut target, _) = lab.targets.accept().await.expect("accepted");
    head(&mut target).await;
    goes_at_once(idle).await;
}

#[tokio::test]
async fn one_that_is_idle_makes_way_for_one_to_another_target() {
    let (listener, limits) = alone();
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = other.local_addr().expect("an address");
    let both = |_: &_, group: &mut TargetGroup| {
        group.targets.push(TargetConfig { address, weight: 1 });
    };
    let lab = Lab::toward(listener, limits, both).await;
    let targets = [&lab.targets, &other];
    let (mut client, idle, which) = answered(&lab, targets).await;
    // In turn.
    send(&mut client, GET).await;
    let (mut target, next) = accepted(targets).await;
    assert_ne!(which, next);
    head(&mut target).await;
    goes_at_once(idle).await;
}
