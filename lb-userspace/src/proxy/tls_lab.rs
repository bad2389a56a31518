//! A listener on loopback, over TLS or not, a client that trusts it, and a scripted
//! target.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Groups, Pools, Proxy, Rules, Shared};
use crate::access::AccessLog;
use crate::config::{
    self, Action, Forward, ForwardedFor, Limits, Listener, Protocol, SameSite, Secret,
    TargetConfig, TargetGroup, Weighted,
};
use crate::connections::Connections;
use crate::dataplane::{Dataplane, Mode, Settings};
use crate::door::{Admission, Door};
use crate::drain::{self, Drainer};
use crate::events::Events;
use crate::listen;
use crate::metrics::Metrics;
use crate::room::{Room, Sources, Streams};
use crate::target::Group;
use crate::tls::authority::Authority;
use crate::tls::{self, Asked, Certificates, Clients};

/// The opening handshake of RFC 6455 section 1.2, and its answer.
pub(super) const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
pub(super) const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub(super) struct Lab {
    pub(super) authority: Authority,
    pub(super) balancer: SocketAddr,
    pub(super) targets: TcpListener,
    pub(super) connections: Arc<Connections>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drainer: Drainer,
}

pub(super) type Client = TlsStream<TcpStream>;

impl Lab {
    /// With a sticky group of one target and these idle timeouts.
    pub(super) async fn new(idle_timeout: Duration) -> Self {
        Self::of(Protocol::Https, idle_timeout).await
    }

    /// The same with another protocol.
    pub(super) async fn of(protocol: Protocol, idle_timeout: Duration) -> Self {
        Self::with(protocol, idle_timeout, limits()).await
    }

    /// The same with other limits.
    pub(super) async fn with(protocol: Protocol, idle_timeout: Duration, limits: Limits) -> Self {
        let listener = Listener {
            protocol,
            ..listener(idle_timeout)
        };
        Self::at(listener, limits).await
    }

    /// At this listener; it has a certificate if it needs one.
    pub(super) async fn at(listener: Listener, limits: Limits) -> Self {
        Self::toward(listener, limits, |_, _| {}).await
    }

    /// With a target group that is made something else of.
    pub(super) async fn toward(
        listener: Listener,
        limits: Limits,
        change: impl FnOnce(&Authority, &mut TargetGroup),
    ) -> Self {
        Self::trusted(Authority::new(), listener, limits, change).await
    }

    /// The same with this access log.
    pub(super) async fn logged(
        listener: Listener,
        limits: Limits,
        access: AccessLog,
        change: impl FnOnce(&Authority, &mut TargetGroup),
    ) -> Self {
        Self::built(Authority::new(), listener, limits, access, change).await
    }

    async fn trusted(
        authority: Authority,
        listener: Listener,
        limits: Limits,
        change: impl FnOnce(&Authority, &mut TargetGroup),
    ) -> Self {
        Self::built(authority, listener, limits, AccessLog::off(), change).await
    }

    async fn built(
        authority: Authority,
        listener: Listener,
        limits: Limits,
        access: AccessLog,
        change: impl FnOnce(&Authority, &mut TargetGroup),
    ) -> Self {
        let protocol = listener.protocol;
        let targets = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let mut group = group(targets.local_addr().expect("an address"));
        change(&authority, &mut group);
        let socket = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a listener");
        let balancer = socket.local_addr().expect("an address");
        let (drainer, drain) = drain::channel();
        let (dataplane, _) = Dataplane::open(off()).await.expect("no fast path");
        let room = Room::new(limits.max_connections);
        let shared = Shared {
            targets: Pools::new(limits.max_connections),
            streams: Streams::new(&room),
            room,
            sources: Sources::new(limits.max_connections_per_source),
            handshakes: Sources::new(limits.tls_handshakes_per_source),
            limits,
            dataplane,
            access,
            connections: Arc::default(),
            metrics: Arc::new(Metrics::new().expect("metrics")),
            drain,
        };
        let (connections, metrics) = (shared.connections.clone(), shared.metrics.clone());
        let clients = listener.client_certificates.clone();
        let certificates = Arc::new(Certificates::new(&[authority.pair(&["a.test"])]));
        let tls =
            || tls::Server::new(certificates, listener.alpn(), clients.as_ref()).expect("a server");

        let proxy = Proxy {
            id: 1,
            rules: Rules::new(&listener, &groups(&group), &[]).expect("rules"),
            tls: protocol.ends_tls().then(tls),
            door: Door::first(Admission::default()),
            room: Room::new(listener.max_connections),
            shared: Arc::new(shared),
            listener,
        };
        tokio::spawn(listen::accept(socket, Arc::new(proxy)));
        Self {
            authority,
            balancer,
            targets,
            connections,
            metrics,
            drainer,
        }
    }

    pub(super) async fn dial(&self) -> TcpStream {
        self.try_dial().await.expect("connected")
    }

    /// A connection, or why there is none: a reset may overtake it.
    pub(super) async fn try_dial(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.balancer).await
    }

    pub(super) async fn client(&self) -> Client {
        self.client_of(tls::HTTP1).await
    }

    /// An https listener that tells targets the subjects of clients' certificates.
    pub(super) async fn telling_subjects() -> Self {
        let authority = Authority::new();
        let ca = authority.ca_file();
        let listener = Listener {
            client_certificates: Some(Clients::load(Asked::Subject, ca).expect("authorities")),
            ..listener(Duration::from_secs(3600))
        };
        Self::trusted(authority, listener, limits(), |_, _| {}).await
    }

    /// A client of this protocol with a certificate of this common name.
    pub(super) async fn client_named(&self, common_name: &str, alpn: &str) -> Client {
        let versions = rustls::ALL_VERSIONS;
        let mut config = self
            .authority
            .client_named(&self.authority, common_name, versions);
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("a.test").expect("a name");
        let stream = self.dial().await;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
        connected.await.expect("a handshake")
    }

    /// A client of this protocol.
    pub(super) async fn client_of(&self, alpn: &str) -> Client {
        self.try_client_of(alpn).await.expect("a handshake")
    }

    pub(super) async fn try_client(&self) -> io::Result<Client> {
        self.try_client_of(tls::HTTP1).await
    }

    pub(super) async fn try_client_of(&self, alpn: &str) -> io::Result<Client> {
        let config = Arc::new(self.authority.client(&[alpn]));
        let name = ServerName::try_from("a.test").expect("a name");
        let stream = self.try_dial().await?;
        TlsConnector::from(config).connect(name, stream).await
    }

    /// An upgraded connection: the client's side and the target's. Bytes that come
    /// right behind the heads must go the same way.
    pub(super) async fn tunnel(&self) -> (Client, TcpStream) {
        let mut client = self.client().await;
        let upgrade = format!("{UPGRADE}early");
        client.write_all(upgrade.as_bytes()).await.expect("written");
        let (mut target, _) = self.targets.accept().await.expect("accepted");
        head(&mut target).await;
        let switched = format!("{SWITCHED}hello");
        target
            .write_all(switched.as_bytes())
            .await
            .expect("written");
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(read(&mut client, 5).await, b"hello");
        assert_eq!(read(&mut target, 5).await, b"early");
        (client, target)
    }

    /// Waits until the metrics have this line.
    pub(super) async fn counted(&self, line: &str) {
        let counted = async {
            while !self.metrics.render().expect("metrics").contains(line) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(Duration::from_secs(10), counted).await.is_err() {
            panic!("{line}\n{}", self.metrics.render().expect("metrics"));
        }
    }

    /// Waits until no connection is listed.
    pub(super) async fn empty(&self) {
        let empty = async {
            while !self.connections.relayed().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let limit = Duration::from_secs(10);
        timeout(limit, empty).await.expect("an end");
    }
}

/// Reads to the end of a head, and no further.
pub(super) async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

pub(super) async fn read(stream: &mut (impl AsyncReadExt + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.expect("bytes");
    bytes
}

pub(super) fn limits() -> Limits {
    Limits {
        max_connections: 0,
        max_connections_per_source: 0,
        tls_handshakes_per_source: 0,
        tls_handshake_timeout: Duration::from_secs(5),
        connection_lifetime: Duration::from_secs(3600),
        connect_timeout: Duration::from_secs(5),
        header_timeout: Duration::from_secs(5),
        header_bytes: 64 * 1024,
        header_count: 100,
        response_timeout: Duration::from_secs(60),
    }
}

pub(super) fn listener(idle_timeout: Duration) -> Listener {
    Listener {
        name: "secure".to_owned(),
        binds: Vec::new(),
        protocol: Protocol::Https,
        certificates: Vec::new(),
        client_certificates: None,
        http2: true,
        rules: Vec::new(),
        action: Action::Forward(Forward {
            groups: vec![Weighted {
                target_group: "chat".to_owned(),
                weight: 1,
            }],
            stickiness: None,
        }),
        idle_timeout,
        websocket_idle_timeout: idle_timeout,
        x_forwarded_for: ForwardedFor::Append,
        proxies: Vec::new(),
        mss: None,
        max_connections: 0,
        error_pages: config::ErrorPages::default(),
        admission: Admission::default(),
    }
}

fn group(target: SocketAddr) -> TargetGroup {
    TargetGroup {
        targets: vec![TargetConfig {
            address: target,
            weight: 1,
        }],
        ..TargetGroup::with_defaults("chat")
    }
}

fn groups(group: &TargetGroup) -> Groups {
    let secret = Secret::new(vec![1; 16]).expect("long enough");
    let stickiness = config::Stickiness {
        mode: config::StickinessMode::LbCookie,
        cookie: "LIMPET".to_owned(),
        same_site: SameSite::Lax,
        domain: String::new(),
        duration: Duration::from_secs(60),
        moves_while_draining: false,
        secrets: vec![secret],
    };
    let group = Arc::new(Group::new(group, Events::default()));
    Groups::from([("chat".to_owned(), (group, Some(stickiness)))])
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
