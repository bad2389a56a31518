//! Proves that a client is who a trusted balancer in front says it is, that nobody
//! else is believed, and that targets are told, also of what the kernel carries.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Client, read_answer, who};
use lb_tests::daemon::{Config, Daemon};
use lb_tests::head;
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use lb_tests::web_socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Everything here takes milliseconds; a loaded machine takes its time.
const SOON: Duration = Duration::from_secs(15);
/// The signature of version 2, then: proxied, TCP over IPv4, 12 bytes of addresses.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";

fn accepting(lab: &Lab, mode: &'static str, from: &str) -> Config {
    let mut config = Config::new(lab, mode);
    config.more.listener = format!("proxy_protocol = {{ accept_from = [{from:?}] }}");
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_balancer_is_believed() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &accepting(&lab, "tc", "10.71.0.0/24")).await?;
    let v1 = &b"PROXY TCP4 203.0.113.7 192.0.2.1 51334 8443\r\n"[..];
    let v2 = [
        V2,
        &[203, 0, 113, 7, 192, 0, 2, 1],
        &[0xc8, 0x86],
        &[0x20, 0xfb],
    ]
    .concat();
    for header in [v1, &v2] {
        let request = b"GET /head HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = scene.client.exchange(&[header, request].concat()).await?;
        let told = answer.body.to_ascii_lowercase();
        for line in ["x-forwarded-for: 203.0.113.7\n", "x-forwarded-port: 8443\n"] {
            ensure!(told.contains(line), "{line:?} not in {told:?}");
        }
        let mut stream = scene.client.connect().await?;
        stream.write_all(header).await?;
        let (mut socket, _) = scene.client.upgrade(stream, "/ws", None).await?;
        who(&mut socket).await?;
        scene.settled(1).await?;
        who(&mut socket).await?;
        drop(socket);
        scene.all_gone().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is() -> Result<()> {
    let lab = Lab::new()?;
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let header = format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{get}");
    for (from, bytes, reason) in [
        ("10.71.0.0/24", get, "proxy_malformed"),
        ("192.0.2.0/24", header.as_str(), "proxy_untrusted"),
    ] {
        let daemon = Daemon::start(&lab, &accepting(&lab, "off", from)).await?;
        let client = Client::new(&lab.client, lab.front());
        let answer = client.exchange(bytes.as_bytes()).await;
        ensure!(answer.is_err(), "{reason}: {answer:?}");
        let metric = format!("limpet_rejected_total{{listener=\"web\",reason=\"{reason}\"}}");
        until(&metric, SOON, async || {
            let count = daemon.admin.metric(&metric).await?;
            when(count == 1.0, || count.to_string())
        })
        .await?;
    }
    Ok(())
}

/// Where a target would be, by hand: the connection that begins with the header of
/// a version for a client of the lab's. Health checks come too; they are not it.
async fn accept(listener: &TcpListener, version: &str, port: u16) -> Result<TcpStream> {
    let wanted = match version {
        "v1" => format!("PROXY TCP4 10.71.0.2 10.71.0.1 {port} 80\r\n").into_bytes(),
        _ => {
            let ports = [port.to_be_bytes(), 80_u16.to_be_bytes()].concat();
            [V2, &[10, 71, 0, 2, 10, 71, 0, 1], &ports].concat()
        }
    };
    let begun = async {
        loop {
            let (mut stream, _) = listener.accept().await?;
            let mut got = vec![0; wanted.len()];
            if stream.read_exact(&mut got).await.is_ok() && got == wanted {
                return anyhow::Ok(stream);
            }
        }
    };
    timeout(SOON, begun)
        .await
        .context("no connection with this header")?
}

async fn targets_are_told(version: &'static str) -> Result<()> {
    let lab = Lab::new()?;
    let mut config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(&lab, "tc")
    };
    config.more.target_group = format!("proxy_protocol = {version:?}");
    let daemon = Daemon::start(&lab, &config).await?;
    let targets = lab.targets[0].listen(lab.target(1))?;
    let client = Client::new(&lab.client, lab.front());

    // One connection of the client, one to the target for each of its requests.
    let mut stream = client.connect().await?;
    let port = stream.local_addr()?.port();
    let mut kept = Vec::new();
    for _ in 0..2 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        let mut target = accept(&targets, version, port).await?;
        let head = head::read(&mut target, &mut Vec::new())
            .await?
            .context("no head")?;
        ensure!(head.path() == "/", "{head:?}");
        target
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await?;
        let answer = read_answer(&mut stream, &mut kept).await?;
        ensure!(answer.status == 200 && answer.body == "ok", "{answer:?}");
    }

    let mut stream = client.connect().await?;
    let port = stream.local_addr()?.port();
    let key = web_socket::key(1);
    let upgrade = web_socket::handshake("a", "/ws", &key, None);
    stream.write_all(upgrade.as_bytes()).await?;
    let mut target = accept(&targets, version, port).await?;
    head::read(&mut target, &mut Vec::new())
        .await?
        .context("no head")?;
    target
        .write_all(web_socket::switching(&key).as_bytes())
        .await?;
    lb_tests::client::read_switching(&mut stream, &mut Vec::new(), &key).await?;
    until("the kernel has it", SOON, async || {
        let all = daemon.admin.connections().await?;
        when(all.len() == 1 && all[0].in_kernel(), || format!("{all:?}"))
    })
    .await?;
    stream.write_all(b"up").await?;
    target.write_all(b"down").await?;
    let (mut up, mut down) = ([0; 2], [0; 4]);
    timeout(SOON, target.read_exact(&mut up)).await??;
    timeout(SOON, stream.read_exact(&mut down)).await??;
    ensure!(&up == b"up" && &down == b"down", "{up:?} {down:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_told_in_version_1() -> Result<()> {
    targets_are_told("v1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_told_in_version_2() -> Result<()> {
    targets_are_told("v2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_ready_is_reported_as_that() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = Config::new(&lab, "off");
    config.more.target_group = "proxy_protocol = \"v1\"".into();
    let scene = Scene::set(&lab, &config).await?;
    for number in 1..=3 {
        let reason = scene.target_becomes(number, "unhealthy").await?;
        let told = reason.contains("does not understand the PROXY protocol");
        ensure!(told, "{reason}");
    }
    let admin = &scene.daemon.admin;
    let label = "result=\"no_proxy_protocol\"";
    let counted = admin
        .metric_with("limpet_health_checks_total", label)
        .await?;
    ensure!(counted >= 3.0, "{counted}");
    Ok(())
}
