//! Targets that are slow: to take a connection, to do their half of a handshake, to answer.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{GET, HOUR, send};
use crate::config::{Limits, Listener, Protocol, TargetGroup, TargetProtocol};
use crate::proxy::cut_tests::Logged;
use crate::proxy::tls_lab::{UPGRADE, head, limits, listener};
use crate::tls::authority::Authority;
use crate::tls::{Client, Trust};

const SHORT: Duration = Duration::from_millis(200);

/// That a client is told 504 as long as nobody accepts, and this is the fault in the log.
async fn is_504(limits: Limits, fault: &str, change: impl Fn(&Authority, &mut TargetGroup)) {
    for request in [GET, UPGRADE] {
        let listener = Listener {
            protocol: Protocol::Http,
            ..listener(HOUR)
        };
        let logged = Logged::toward(listener, limits.clone(), &change).await;
        let mut client = logged.lab.dial().await;
        send(&mut client, request).await;
        let told = head(&mut client).await;
        assert!(told.starts_with("HTTP/1.1 504 "), "{fault}: {told}");
        // What comes next on the connection is a request: this one was not at fault.
        assert!(!told.contains("connection: close"), "{fault}: {told}");
        let line = logged.line().await;
        assert_eq!(line["status"], 504);
        assert_eq!(line["origin"], "balancer");
        assert_eq!(line["fault"], fault);
        let labels = r#"code="504",listener="secure",origin="balancer",target_group="chat""#;
        let counted = format!("limpet_requests_total{{{labels}}} 1");
        logged.lab.counted(&counted).await;
    }
}

fn short_to_connect() -> Limits {
    Limits {
        connect_timeout: SHORT,
        ..limits()
    }
}

#[tokio::test]
async fn a_target_that_takes_no_connection() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).expect("bound");
    socket.listen(0).expect("a listener");
    let bound = socket.local_addr().expect("an address");
    let full = bound.as_socket().expect("of IPv4");
    // One waits for ever to be accepted; there is no room for another.
    let _waits = TcpStream::connect(full).expect("connected");
    let change = |_: &Authority, group: &mut TargetGroup| group.targets[0].address = full;
    is_504(short_to_connect(), "connect_timeout", change).await;
}

#[tokio::test]
async fn a_target_that_shakes_no_hands() {
    let change = |_: &Authority, group: &mut TargetGroup| {
        let client = Client::new(Trust::Anybody, None).expect("a client");
        group.protocol = TargetProtocol::Https(client);
    };
    is_504(short_to_connect(), "connect_timeout", change).await;
}

#[tokio::test]
async fn a_target_that_does_not_answer() {
    let limits = Limits {
        response_timeout: SHORT,
        ..limits()
    };
    is_504(limits, "response_timeout", |_, _| {}).await;
}
