//! Targets that speak TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls_lab::{self, Lab, SWITCHED, UPGRADE, head, limits, read};
use crate::config::{Listener, Protocol, ProxyProtocol, TargetGroup, TargetProtocol};
use crate::dataplane::Refusal;
use crate::tls::authority::Authority;
use crate::tls::{self, Certificates, Client, Trust};

const HOUR: Duration = Duration::from_secs(3600);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A listener in the clear before a target that must be `name`.
async fn lab(
    trust: impl FnOnce(&Authority) -> Trust,
    name: &'static str,
    proxy: ProxyProtocol,
) -> Lab {
    let change = |authority: &Authority, group: &mut TargetGroup| {
        let name = ServerName::try_from(name).expect("a name");
        let client = Client::new(trust(authority), Some(name)).expect("a client");
        group.protocol = TargetProtocol::Https(client);
        group.proxy_protocol = proxy;
    };
    let listener = Listener {
        protocol: Protocol::Http,
        ..tls_lab::listener(HOUR)
    };
    Lab::toward(listener, limits(), change).await
}

fn ours(authority: &Authority) -> Trust {
    Trust::Authorities(authority.roots())
}

async fn target(lab: &Lab) -> TlsStream<TcpStream> {
    let (stream, _) = lab.targets.accept().await.expect("accepted");
    secured(lab, stream).await.expect("a handshake")
}

/// The target is `target.test`.
async fn secured(lab: &Lab, stream: TcpStream) -> Result<TlsStream<TcpStream>, tls::Failed> {
    let certificates = Certificates::new(&[lab.authority.pair(&["target.test"])]);
    let server = tls::Server::new(Arc::new(certificates), &[tls::HTTP1], None);
    let server = server.expect("a server");
    server.accept(stream, HOUR).await.map(|stream| *stream)
}

#[tokio::test]
async fn requests_share_a_kept_connection() {
    let lab = lab(ours, "target.test", ProxyProtocol::Off).await;
    let mut client = lab.dial().await;
    client.write_all(GET).await.expect("written");
    let mut target = target(&lab).await;
    for _ in 0..2 {
        let asked = head(&mut target).await;
        assert!(asked.contains("Host: a.test\r\n"), "{asked}");
        assert!(asked.contains("x-forwarded-proto: http\r\n"), "{asked}");
        target.write_all(OK).await.expect("written");
        target.flush().await.expect("written");
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(read(&mut client, 2).await, b"hi");
        client.write_all(GET).await.expect("written");
    }
}

#[tokio::test]
async fn a_target_is_told_who_the_client_is_before_the_handshake() {
    let lab = lab(ours, "target.test", ProxyProtocol::V1).await;
    let mut client = lab.dial().await;
    client.write_all(GET).await.expect("written");
    let (mut stream, _) = lab.targets.accept().await.expect("accepted");
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.expect("a line"));
    }
    assert!(line.starts_with(b"PROXY TCP4 127.0.0.1 127.0.0.1 "));
    let mut target = secured(&lab, stream).await.expect("a handshake");
    head(&mut target).await;
    target.write_all(OK).await.expect("written");
    target.flush().await.expect("written");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn websockets_are_relayed() {
    let lab = lab(ours, "target.test", ProxyProtocol::Off).await;
    let mut client = lab.dial().await;
    client.write_all(UPGRADE.as_bytes()).await.expect("written");
    let mut target = target(&lab).await;
    head(&mut target).await;
    let switched = format!("{SWITCHED}hello");
    target
        .write_all(switched.as_bytes())
        .await
        .expect("written");
    target.flush().await.expect("written");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(read(&mut client, 5).await, b"hello");
    client.write_all(b"ping").await.expect("written");
    assert_eq!(read(&mut target, 4).await, b"ping");
    assert_eq!(lab.connections.relayed()[0].reason(), Refusal::Tls);
    let linger = SockRef::from(target.get_ref().0).set_linger(Some(Duration::ZERO));
    linger.expect("linger");
    drop(target);
    let error = client.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    lab.empty().await;
}

/// The status that a client gets, and whether the target was spoken to.
async fn asked(lab: &Lab, request: &[u8]) -> (String, bool) {
    let mut client = lab.dial().await;
    client.write_all(request).await.expect("written");
    let (stream, _) = lab.targets.accept().await.expect("accepted");
    let trusted = match secured(lab, stream).await {
        Ok(mut target) => target.read(&mut [0; 1]).await.is_ok_and(|count| count > 0),
        Err(_) => false,
    };
    if trusted {
        return (String::new(), true);
    }
    let answer = head(&mut client).await;
    (answer.get(9..12).expect("a status").to_owned(), false)
}

#[tokio::test]
async fn who_is_not_trusted_hears_nothing() {
    for request in [GET, UPGRADE.as_bytes()] {
        let refused = ("502".to_owned(), false);
        let other = lab(ours, "other.test", ProxyProtocol::Off).await;
        assert_eq!(asked(&other, request).await, refused);
        let stranger = lab(
            |_| ours(&Authority::new()),
            "target.test",
            ProxyProtocol::Off,
        )
        .await;
        assert_eq!(asked(&stranger, request).await, refused);
        let anybody = lab(|_| Trust::Anybody, "other.test", ProxyProtocol::Off).await;
        assert!(asked(&anybody, request).await.1);
    }
}
