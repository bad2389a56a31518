//! A tunnel between scripted ends over loopback.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::access::{AccessLog, Record};
use crate::connections::{Connections, Identity};
use crate::dataplane::{self, Dataplane, Mode, Owner, Request, Settings};
use crate::drain::{self, Drainer};
use crate::metrics::Metrics;
use crate::target::InFlight;

/// Far more than the socket buffers of two connections hold.
const FLOOD: usize = 64 << 20;

/// Both ends of a tunnel at work.
struct Lab {
    client: TcpStream,
    target: TcpStream,
    tunnel: JoinHandle<()>,
    connections: Arc<Connections>,
    drainer: Drainer,
}

async fn lab(idle_timeout: Duration, to_target: &'static [u8], to_client: &'static [u8]) -> Lab {
    let (dataplane, _events) = Dataplane::open(off()).await.expect("no fast path");
    let targets = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let clients = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let client = TcpStream::connect(address(&clients))
        .await
        .expect("connected");
    let (accepted, from) = clients.accept().await.expect("accepted");
    let request = Request {
        owner: Owner {
            listener: 1,
            target_group: 2,
        },
        note: 0,
        client: from,
        local: address(&clients),
        limits: dataplane::limits(&accepted),
        connect_timeout: Duration::from_secs(5),
    };
    let (dialled, candidate) = dataplane
        .connect(address(&targets), request)
        .await
        .expect("connected");
    let (target, _) = targets.accept().await.expect("accepted");
    let connections = Arc::new(Connections::default());
    let (drainer, drain) = drain::channel();
    let tunnel = Tunnel {
        target: dialled,
        to_client: Bytes::from_static(to_client),
        opening: Opening::Answered,
        listed: connections.enter(Identity {
            id: candidate.id(),
            listener: "web".to_owned(),
            target_group: "chat".to_owned(),
            target: address(&targets),
            client: from,
        }),
        candidate,
        in_flight: InFlight::lone(),
        line: AccessLog::off().open(|| Record::new("websocket", "web", from)),
        idle_timeout,
        metrics: Metrics::new().expect("metrics").tunnel(),
        drain,
    };
    let tunnel = tokio::spawn(tunnel.run(accepted, Bytes::from_static(to_target), ()));
    Lab {
        client,
        target,
        tunnel,
        connections,
        drainer,
    }
}

fn off() -> Settings {
    Settings {
        mode: Mode::Off,
        interfaces: Vec::new(),
        max_flows: 1,
        source_ports: 10_000..=32_767,
        pin_dir: "/nonexistent".into(),
    }
}

fn address(listener: &TcpListener) -> std::net::SocketAddr {
    listener.local_addr().expect("an address")
}

async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.expect("bytes");
    bytes
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn leftovers_come_first_and_halves_close_alone() {
    let mut lab = lab(HOUR, b"early ", b"hello ").await;
    lab.client.write_all(b"ping").await.expect("written");
    assert_eq!(read(&mut lab.target, 10).await, b"early ping");
    lab.client.shutdown().await.expect("half closed");
    assert_eq!(lab.target.read(&mut [0; 1]).await.expect("an end"), 0);
    lab.target.write_all(b"still here").await.expect("written");
    assert_eq!(read(&mut lab.client, 16).await, b"hello still here");
    lab.target.shutdown().await.expect("half closed");
    assert_eq!(lab.client.read(&mut [0; 1]).await.expect("an end"), 0);
    lab.tunnel.await.expect("the tunnel ends");
    assert!(lab.connections.relayed().is_empty());
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer_and_loses_nothing() {
    let lab = lab(HOUR, b"", b"").await;
    let (mut client, mut target) = (lab.client, lab.target);
    let connections = lab.connections.clone();
    let writer = tokio::spawn(async move {
        let chunk: Vec<u8> = (0..=250).cycle().take(FLOOD / 64).collect();
        for _ in 0..64 {
            client.write_all(&chunk).await.expect("written");
        }
        client.shutdown().await.expect("half closed");
        client
    });
    stalled(&connections).await;
    let taken = connections
        .relayed()
        .first()
        .expect("a connection")
        .bytes()
        .0;
    assert!(
        taken < FLOOD as u64,
        "the relay took {taken} bytes that nobody read"
    );
    let mut all = Vec::new();
    target.read_to_end(&mut all).await.expect("everything");
    assert_eq!(all.len(), FLOOD);
    let expected = (0..=250_u8).cycle().take(FLOOD / 64);
    assert!(
        all.chunks(FLOOD / 64)
            .all(|chunk| chunk.iter().copied().eq(expected.clone()))
    );
    drop(target);
    drop(writer.await.expect("the writer ends"));
    lab.tunnel.await.expect("the tunnel ends");
}

/// Waits until the relay has taken something and then nothing more.
async fn stalled(connections: &Connections) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = connections
            .relayed()
            .first()
            .expect("a connection")
            .bytes()
            .0;
        if now == before && now > 0 {
            return;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let mut lab = lab(HOUR, b"", b"").await;
    lab.client.write_all(b"x").await.expect("written");
    read(&mut lab.target, 1).await;
    SockRef::from(&lab.target)
        .set_linger(Some(Duration::ZERO))
        .expect("linger");
    drop(lab.target);
    let error = lab.client.read(&mut [0; 1]).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    lab.tunnel.await.expect("the tunnel ends");
}

#[tokio::test]
async fn an_idle_tunnel_ends() {
    let mut lab = lab(Duration::from_millis(50), b"", b"").await;
    assert!(lab.client.read(&mut [0; 1]).await.is_err());
    lab.tunnel.await.expect("the tunnel ends");
}

#[tokio::test]
async fn the_drain_deadline_closes_a_tunnel() {
    let mut lab = lab(HOUR, b"", b"").await;
    lab.drainer.start();
    lab.drainer.finish(Duration::from_millis(10)).await;
    assert_eq!(lab.client.read(&mut [0; 1]).await.expect("an end"), 0);
    lab.tunnel.await.expect("the tunnel ends");
}
