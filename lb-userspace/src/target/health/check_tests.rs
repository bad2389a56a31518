//! Checks of targets on loopback that do what a test tells them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::TargetGroup;

fn config(protocol: CheckProtocol) -> HealthCheck {
    HealthCheck {
        protocol,
        path: "/health?a=b".parse().expect("a path"),
        ..TargetGroup::with_defaults("chat").health_check
    }
}

/// A target that reads a request's head and gives these bytes back.
async fn answering(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let target = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.expect("read") > 0 {}
        stream.write_all(answer.as_bytes()).await.expect("written");
        String::from_utf8(head).expect("text")
    });
    (address, target)
}

async fn http_check(answer: &'static str) -> (Result<(), Failure>, String) {
    let (address, target) = answering(answer).await;
    let result = check(
        address,
        &config(CheckProtocol::Http),
        ProxyProtocol::Off,
        &TargetProtocol::Http,
    )
    .await;
    (result, target.await.expect("the target"))
}

#[tokio::test]
async fn http_asks_for_the_path_and_judges_the_code() {
    let (result, asked) = http_check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(result, Ok(()));
    assert!(asked.starts_with("GET /health?a=b HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("limpet-health-check"), "{asked}");
    let (result, _) = http_check("HTTP/1.1 503 No\r\n\r\n").await;
    assert_eq!(result, Err(Failure::Code(503)));
    for broken in ["nonsense\r\n\r\n", ""] {
        assert_eq!(http_check(broken).await.0, Err(Failure::Malformed));
    }
}

#[tokio::test]
async fn it_says_who_asks_where_targets_expect_that() {
    let (address, target) = answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let config = config(CheckProtocol::Http);
    let result = check(address, &config, ProxyProtocol::V1, &TargetProtocol::Http).await;
    assert_eq!(result, Ok(()));
    let asked = target.await.expect("the target");
    assert!(
        asked.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
        "{asked}"
    );
    assert!(
        asked.contains("\r\nGET /health?a=b HTTP/1.1\r\n"),
        "{asked}"
    );
}

/// A target that answers each request whose first line is as it expects with 200, and
/// others as servers do: with 400, or by closing without a word.
async fn expecting(first: &'static str, otherwise: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let target = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.expect("read") == 0 {
                    break;
                }
            }
            let answer = match head.starts_with(first.as_bytes()) {
                true => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                false => otherwise,
            };
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    (address, target)
}

#[tokio::test]
async fn a_target_that_knows_no_proxy_protocol_is_told_from_a_sick_one() {
    const BAD: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let config = config(CheckProtocol::Http);
    for (first, otherwise, version, expected) in [
        (
            "GET ",
            BAD,
            ProxyProtocol::V1,
            Err(Failure::NoProxyProtocol),
        ),
        (
            "GET ",
            BAD,
            ProxyProtocol::V2,
            Err(Failure::NoProxyProtocol),
        ),
        ("GET ", "", ProxyProtocol::V1, Err(Failure::NoProxyProtocol)),
        ("PROXY ", BAD, ProxyProtocol::V1, Ok(())),
        ("GET ", BAD, ProxyProtocol::Off, Ok(())),
        // Not well either way: that is not the reason.
        ("never", BAD, ProxyProtocol::V1, Err(Failure::Code(400))),
        ("never", "", ProxyProtocol::V2, Err(Failure::Malformed)),
        ("PROXY ", BAD, ProxyProtocol::Off, Err(Failure::Code(400))),
    ] {
        let (address, target) = expecting(first, otherwise).await;
        let result = check(address, &config, version, &TargetProtocol::Http).await;
        assert_eq!(result, expected, "{first:?} {otherwise:?} {version:?}");
        target.abort();
    }
}

#[tokio::test]
async fn tcp_wants_a_connection() {
    let config = config(CheckProtocol::Tcp);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    assert_eq!(
        check(address, &config, ProxyProtocol::Off, &TargetProtocol::Http).await,
        Ok(())
    );
    drop(listener);
    assert_eq!(
        check(address, &config, ProxyProtocol::Off, &TargetProtocol::Http).await,
        Err(Failure::Refused)
    );
}

#[tokio::test]
async fn websocket_wants_a_pong() {
    let config = config(CheckProtocol::Websocket);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let target = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("open");
        // Reading is enough: pings are answered by the library.
        while let Some(Ok(_)) = socket.next().await {}
    });
    assert_eq!(
        check(address, &config, ProxyProtocol::Off, &TargetProtocol::Http).await,
        Ok(())
    );
    target.await.expect("the target");
    let (address, _target) = answering("HTTP/1.1 404 No\r\n\r\n").await;
    assert_eq!(
        check(address, &config, ProxyProtocol::Off, &TargetProtocol::Http).await,
        Err(Failure::Code(404))
    );
}

#[tokio::test]
async fn a_websocket_without_a_pong_is_not_well() {
    let config = config(CheckProtocol::Websocket);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let target = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        // Opened, and closed before anything is read.
        drop(tokio_tungstenite::accept_async(stream).await.expect("open"));
    });
    let result = tokio::time::timeout(
        Duration::from_secs(30),
        check(address, &config, ProxyProtocol::Off, &TargetProtocol::Http),
    )
    .await;
    assert_eq!(result.expect("an end"), Err(Failure::NoPong));
    target.await.expect("the target");
}

#[tokio::test]
async fn https_is_checked_as_clients_are_served() {
    use crate::tls::authority::Authority;
    use crate::tls::{Certificates, Client, Server, Trust};
    let authority = Authority::new();
    let check_of = async |trust: Trust| {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let certificates = Certificates::new(&[authority.pair(&["a.test"])]);
        let server = Server::new(std::sync::Arc::new(certificates), &[], None).expect("a server");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let limit = Duration::from_secs(10);
            if let Ok(mut stream) = server.accept(stream, limit).await {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).await.expect("written");
                stream.flush().await.expect("written");
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
        let name = "a.test".try_into().expect("a name");
        let tls = Client::new(trust, Some(name)).expect("a client");
        let protocol = TargetProtocol::Https(tls);
        let config = config(CheckProtocol::Http);
        check(address, &config, ProxyProtocol::Off, &protocol).await
    };
    let trusted = check_of(Trust::Authorities(authority.roots())).await;
    assert_eq!(trusted, Ok(()));
    let other = check_of(Trust::Authorities(Authority::new().roots())).await;
    let failure = other.expect_err("not to be trusted");
    assert_eq!(failure.result(), "tls");
    assert!(
        failure.to_string().contains("invalid peer certificate"),
        "{failure}"
    );
}

#[tokio::test]
async fn h2c_is_checked_over_http_2() {
    let check_of = async |status: u16| {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((asked, mut respond))) = connection.accept().await {
                assert_eq!(asked.uri().path_and_query().expect("a path"), "/health?a=b");
                let answer = http::Response::builder().status(status).body(());
                let answer = answer.expect("an answer");
                respond.send_response(answer, true).expect("sent");
            }
        });
        let config = config(CheckProtocol::Http);
        check(address, &config, ProxyProtocol::Off, &TargetProtocol::H2c).await
    };
    assert_eq!(check_of(200).await, Ok(()));
    assert_eq!(check_of(503).await, Err(Failure::Code(503)));
    let (address, _target) = answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let config = config(CheckProtocol::Http);
    let result = check(address, &config, ProxyProtocol::Off, &TargetProtocol::H2c).await;
    assert_eq!(result, Err(Failure::Malformed));
}
