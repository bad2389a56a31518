//! Handshakes over loopback.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::Authority;
use super::*;
use crate::metrics::Metrics;

const LONG: Duration = Duration::from_secs(30);

fn server(pairs: &[Pair]) -> Server {
    Server::new(Arc::new(Certificates::new(pairs)), &["http/1.1"], None).expect("a server")
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), accepted.expect("accepted").0)
}

/// A handshake and one byte each way; the client's side.
async fn talk(
    server: &Server,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let (client, accepted) = sockets().await;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let serving = async {
        if let Ok(mut stream) = server.accept(accepted, LONG).await
            && let Ok(byte) = stream.read_u8().await
        {
            let _ = stream.write_u8(byte).await;
        }
    };
    let asking = async {
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector.connect(name, client).await?;
        stream.write_u8(7).await?;
        assert_eq!(stream.read_u8().await?, 7);
        Ok(stream)
    };
    tokio::join!(serving, asking).1
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("a chain");
    chain[0].clone()
}

#[tokio::test]
async fn the_name_picks_and_an_unknown_one_gets_the_default() {
    let authority = Authority::new();
    let server = server(&[
        authority.pair(&["one.test"]),
        authority.pair(&["*.two.test"]),
    ]);
    let client = Arc::new(authority.client(&["h2", "http/1.1"]));
    for name in ["one.test", "any.two.test", "ANY.Two.test"] {
        let stream = talk(&server, &client, name).await.expect(name);
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    // The client finds the wrong name in the certificate and says which it found.
    let error = talk(&server, &client, "three.test")
        .await
        .expect_err("wrong name");
    assert!(error.to_string().contains("one.test"), "{error}");
}

#[tokio::test]
async fn versions_and_resumption() {
    let authority = Authority::new();
    let server = server(&[authority.pair(&["one.test"])]);
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(authority.client_of(&["http/1.1"], &[version]));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = talk(&server, &client, "one.test")
                .await
                .expect("a handshake");
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

#[tokio::test]
async fn another_protocol_inside_is_refused() {
    let authority = Authority::new();
    let server = server(&[authority.pair(&["one.test"])]);
    let h2 = Arc::new(authority.client(&["h2"]));
    assert!(talk(&server, &h2, "one.test").await.is_err());
    let none = Arc::new(authority.client(&[]));
    assert!(talk(&server, &none, "one.test").await.is_ok());
}

/// A hello of TLS 1.1: its version, 32 bytes of randomness, no session, two
/// cipher suites of its time, no compression, one signature algorithm.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([9; 32]);
    body.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    body.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 1]);
    let length = u8::try_from(body.len()).expect("short");
    let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    hello.extend(body);
    hello
}

#[tokio::test]
async fn tls_1_1_is_refused_with_an_alert() {
    const FATAL_PROTOCOL_VERSION: [u8; 2] = [2, 70];
    let authority = Authority::new();
    let server = server(&[authority.pair(&["one.test"])]);
    let (mut client, accepted) = sockets().await;
    client
        .write_all(&hello_of_tls_1_1())
        .await
        .expect("written");
    let failed = server.accept(accepted, LONG).await.expect_err("refused");
    assert!(matches!(failed, Failed::Refused(..)), "{failed:?}");
    drop(failed);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an alert");
    assert_eq!(answer[0], 21, "{answer:?}");
    assert_eq!(answer[5..], FATAL_PROTOCOL_VERSION);
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let authority = Authority::new();
    let server = server(&[authority.pair(&["one.test"])]);
    let (client, accepted) = sockets().await;
    let failed = server.accept(accepted, Duration::from_millis(20)).await;
    assert!(matches!(failed, Err(Failed::Slow)), "{failed:?}");
    drop(client);
    let (client, accepted) = sockets().await;
    drop(client);
    let failed = server.accept(accepted, LONG).await;
    assert!(matches!(failed, Err(Failed::Gone)), "{failed:?}");
}

#[tokio::test]
async fn changed_files_serve_new_handshakes_only_and_broken_ones_never() {
    let authority = Authority::new();
    let files = authority.files(&["one.test"]);
    let pairs = vec![Pair::load(files.clone()).expect("a good pair")];
    let certificates = Arc::new(Certificates::new(&pairs));
    let server = Server::new(certificates.clone(), &["http/1.1"], None).expect("a server");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let mut rotation = Rotation {
        listener: "secure".to_owned(),
        pairs,
        clients: None,
        certificates,
        server: server.clone(),
        metrics: metrics.clone(),
    };
    let ask = async || {
        let client = Arc::new(authority.client(&["http/1.1"]));
        certificate(&talk(&server, &client, "one.test").await.expect("served"))
    };
    let first = ask().await;
    rotation.look();
    assert_eq!(ask().await, first);

    authority.issue(&["one.test"], &files);
    assert_eq!(ask().await, first, "nobody has looked yet");
    rotation.look();
    let second = ask().await;
    assert_ne!(second, first);

    let foreign = authority.files(&["one.test"]);
    std::fs::copy(&foreign.cert, &files.cert).expect("half a pair");
    rotation.look();
    assert_eq!(ask().await, second, "the halves do not belong together");
    std::fs::remove_file(&files.key).expect("the key goes");
    rotation.look();
    assert_eq!(ask().await, second, "there is no key");
    std::fs::copy(&foreign.key, &files.key).expect("the other half");
    rotation.look();
    let third = ask().await;
    assert_ne!(third, second);
    let text = metrics.render().expect("text");
    for (result, count) in [("new", 2), ("broken", 2)] {
        let line = format!(
            "limpet_certificate_reloads_total{{listener=\"secure\",result=\"{result}\"}} {count}"
        );
        assert!(text.contains(&line), "{line}: {text}");
    }
    let file = files.cert.display();
    let end = format!(
        "limpet_certificate_not_after_seconds{{certificate=\"{file}\",listener=\"secure\"}} "
    );
    assert!(text.contains(&end), "{text}");
}

/// Who a server believes a client to be, once they have talked; and how they came to it.
async fn shown(
    server: &Server,
    config: &Arc<ClientConfig>,
) -> io::Result<(Option<String>, Option<HandshakeKind>)> {
    let (client, accepted) = sockets().await;
    let name = ServerName::try_from("one.test").expect("a name");
    let serving = async {
        let mut stream = server.accept(accepted, LONG).await.ok()?;
        let byte = stream.read_u8().await.ok()?;
        stream.write_u8(byte).await.ok()?;
        let shown = stream.get_ref().1.peer_certificates()?.first().cloned()?;
        let subject = subject(&shown).expect("a subject");
        Some(subject.to_str().expect("text").to_owned())
    };
    let asking = async {
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector.connect(name, client).await?;
        stream.write_u8(7).await?;
        stream.read_u8().await?;
        Ok(stream.get_ref().1.handshake_kind())
    };
    let (subject, kind) = tokio::join!(serving, asking);
    kind.map(|kind| (subject, kind))
}

fn asking(authority: &Authority, clients: &Clients) -> Server {
    let pairs = [authority.pair(&["one.test"])];
    let certificates = Arc::new(Certificates::new(&pairs));
    Server::new(certificates, &["http/1.1"], Some(clients)).expect("a server")
}

#[tokio::test]
async fn clients_show_certificates_that_can_be_verified() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    for version in [&TLS12, &TLS13] {
        let versions = &[version];
        for (asked, without) in [(Asked::Certificate, false), (Asked::Subject, true)] {
            let clients = Clients::load(asked, authority.ca_file()).expect("authorities");
            let server = asking(&authority, &clients);
            let alice = Arc::new(authority.client_named(&authority, "alice", versions));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (subject, how) = shown(&server, &alice).await.expect("let in");
                assert_eq!(subject.as_deref(), Some("CN=alice,O=Example\\, Inc."));
                assert_eq!(how, Some(kind), "{version:?}");
            }
            let mallory = Arc::new(authority.client_named(&foreign, "mallory", versions));
            assert!(shown(&server, &mallory).await.is_err(), "{asked:?}");
            let nobody = Arc::new(authority.client_of(&["http/1.1"], versions));
            let let_in = shown(&server, &nobody).await.map(|(subject, _)| subject);
            assert_eq!(let_in.ok(), without.then_some(None), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn other_authorities_judge_new_handshakes_and_broken_ones_none() {
    let (authority, other) = (Authority::new(), Authority::new());
    let file = authority.ca_file();
    let clients = Clients::load(Asked::Certificate, file.clone()).expect("authorities");
    let server = asking(&authority, &clients);
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let mut rotation = Rotation {
        listener: "secure".to_owned(),
        pairs: Vec::new(),
        clients: Some(clients),
        certificates: Arc::new(Certificates::new(&[])),
        server: server.clone(),
        metrics: metrics.clone(),
    };
    let versions = rustls::ALL_VERSIONS;
    let alice = Arc::new(authority.client_named(&authority, "alice", versions));
    let bob = Arc::new(authority.client_named(&other, "bob", versions));
    let broken = |rotation: &mut Rotation| {
        std::fs::write(&file, "nothing").expect("written");
        rotation.look();
    };
    broken(&mut rotation);
    assert!(shown(&server, &alice).await.is_ok(), "the old one is kept");
    assert!(shown(&server, &bob).await.is_err());
    std::fs::copy(other.ca_file(), &file).expect("copied");
    rotation.look();
    // Not even by the session of before.
    assert!(shown(&server, &alice).await.is_err());
    assert!(shown(&server, &bob).await.is_ok());
    broken(&mut rotation);
    assert!(shown(&server, &bob).await.is_ok());
    let text = metrics.render().expect("text");
    for (result, count) in [("new", 1), ("broken", 2)] {
        let line = format!(
            "limpet_certificate_reloads_total{{listener=\"secure\",result=\"{result}\"}} {count}"
        );
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hangup_is_a_look() {
    let authority = Authority::new();
    let files = authority.files(&["one.test"]);
    let pairs = vec![Pair::load(files.clone()).expect("a good pair")];
    let certificates = Arc::new(Certificates::new(&pairs));
    let (_drainer, drain) = crate::drain::channel();
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let rotation = Rotation {
        listener: "secure".to_owned(),
        pairs,
        clients: None,
        certificates: certificates.clone(),
        server: Server::new(certificates, &["http/1.1"], None).expect("a server"),
        metrics: metrics.clone(),
    };
    let hangups = tokio::sync::watch::Sender::new(());
    tokio::spawn(rotation.run(drain, hangups.subscribe()));
    let start = tokio::time::Instant::now();
    authority.issue(&["one.test"], &files);
    hangups.send_replace(());
    let line = "limpet_certificate_reloads_total{listener=\"secure\",result=\"new\"} 1";
    while !metrics.render().expect("text").contains(line) {
        tokio::task::yield_now().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "the clock has not moved");
}
