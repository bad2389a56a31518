//! Proves that TCP, and TLS that ends on the target, are forwarded without a look
//! inside, and end up in the kernel as WebSockets do.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::admin::Connection;
use lb_tests::client::Client;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::until::{until, when};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Everything here takes milliseconds; a loaded machine takes its time.
const SOON: Duration = Duration::from_secs(15);

fn config(lab: &Lab, protocol: &str) -> Config {
    let mut config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(lab, "tc")
    };
    let log = lab.run().directory().join("access.log");
    config.more.log = format!("access = {{ to = {log:?} }}");
    config.more.tables = format!(
        "[[listener]]\nname = \"blind\"\nbind = \"{}\"\nprotocol = \"{protocol}\"\n\
         target_group = \"chat\"\n\
         [[listener.rule]]\npriority = 1\nwhen = {{ {} }}\ntarget_group = \"other\"\n\
         [[target_group]]\nname = \"other\"\n\
         [[target_group.target]]\naddress = \"{}\"\n",
        blind(lab),
        match protocol {
            "tcp" => "source = [\"192.0.2.0/24\"]",
            _ => "host = [\"*.other.test\"]",
        },
        lab.target(2),
    );
    config
}

fn blind(lab: &Lab) -> SocketAddr {
    (lab.front().ip(), 4000).into()
}

/// The next connection that may become a flow. Health checks come too, from ports
/// of the system's range; the balancer chooses those of flows below it.
async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let next = async {
        loop {
            let (stream, from) = listener.accept().await?;
            if from.port() < 32_768 {
                return anyhow::Ok(stream);
            }
        }
    };
    timeout(SOON, next).await.context("no connection")?
}

/// Sends bytes and sees them arrive.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    timeout(SOON, from.write_all(bytes)).await??;
    let mut got = vec![0; bytes.len()];
    timeout(SOON, to.read_exact(&mut got)).await??;
    ensure!(got == bytes, "{:?}", String::from_utf8_lossy(&got));
    Ok(())
}

async fn in_kernel(daemon: &Daemon<'_>, protocol: &str) -> Result<Connection> {
    until("the kernel has it", SOON, async || {
        let mut all = daemon.admin.connections().await?;
        Ok(match all.pop() {
            Some(one) if all.is_empty() && one.in_kernel() && one.protocol == protocol => Ok(one),
            other => Err(format!("{other:?}")),
        })
    })
    .await
}

/// The line of the access log that says this.
async fn logged(lab: &Lab, parts: &[&str]) -> Result<()> {
    let file = lab.run().directory().join("access.log");
    until("the line is written", SOON, async || {
        let text = fs::read_to_string(&file)?;
        let found = |line: &str| parts.iter().all(|part| line.contains(part));
        when(text.lines().any(found), || text.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_first_it_ends_up_in_the_kernel() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &config(&lab, "tcp")).await?;
    let targets = lab.targets[0].listen(lab.target(1))?;
    let client = Client::new(&lab.client, blind(&lab));
    for first in ["client", "target"] {
        let mut near = client.connect().await?;
        let mut far = accept(&targets).await?;
        if first == "client" {
            pass(&mut near, &mut far, b"what is the time?").await?;
        }
        pass(&mut far, &mut near, b"220 half past ten").await?;
        in_kernel(&daemon, "tcp").await?;
        pass(&mut near, &mut far, b"in the kernel").await?;
        pass(&mut far, &mut near, b"and back").await?;
        near.shutdown().await?;
        ensure!(timeout(SOON, far.read(&mut [0])).await?? == 0, "no end");
        drop((near, far));
        until("it is gone", SOON, async || {
            let left = daemon.admin.connections().await?;
            when(left.is_empty(), || format!("{left:?}"))
        })
        .await?;
    }
    let parts = [
        "\"protocol\":\"tcp\"",
        "\"path\":\"tc\"",
        "\"cause\":\"closed\"",
    ];
    logged(&lab, &parts).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_target_resets_the_client() -> Result<()> {
    let lab = Lab::new()?;
    let _daemon = Daemon::start(&lab, &config(&lab, "tcp")).await?;
    let client = Client::new(&lab.client, blind(&lab));
    // The reset may come before the client has looked at its connection.
    let talk = async { anyhow::Ok(client.connect().await?.read(&mut [0]).await?) };
    let end = timeout(SOON, talk).await?;
    ensure!(end.is_err(), "{end:?}");
    logged(
        &lab,
        &["\"fault\":\"target_unreachable\"", "\"cause\":\"refused\""],
    )
    .await
}

/// A ClientHello of TLS 1.3 that asks for a name (RFC 8446 section 4.1.2).
fn hello(name: &str) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &with_length(body)].concat();
    let server_name = with_length(&[&[0][..], &with_length(name.as_bytes())].concat());
    let share = [&[0, 0x1d][..], &with_length(&[9; 32])].concat();
    let extensions = [
        extension(0, &server_name),
        extension(10, &with_length(&[0, 0x1d])),
        extension(13, &with_length(&[4, 3, 8, 4])),
        extension(43, &[2, 3, 4]),
        extension(51, &with_length(&share)),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &with_length(&[0x13, 1]),
        &[1, 0],
        &with_length(&extensions),
    ]
    .concat();
    let message = [&[1, 0][..], &with_length(&body)].concat();
    [&[0x16, 3, 1][..], &with_length(&message)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_passes_by_the_name_it_asks_for() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &config(&lab, "tls-passthrough")).await?;
    let client = Client::new(&lab.client, blind(&lab));
    for (name, number) in [("a.test", 1), ("a.other.test", 2)] {
        let targets = lab.targets[number - 1].listen(lab.target(number))?;
        let mut near = client.connect().await?;
        let hello = hello(name);
        let (first, second) = hello.split_at(60);
        near.write_all(first).await?;
        near.write_all(second).await?;
        let mut far = accept(&targets).await?;
        let mut got = vec![0; hello.len()];
        timeout(SOON, far.read_exact(&mut got)).await??;
        ensure!(got == hello, "another hello for {name}");
        pass(&mut far, &mut near, b"a server's hello").await?;
        in_kernel(&daemon, "tls").await?;
        pass(&mut near, &mut far, b"finished").await?;
        drop((near, far));
        until("it is gone", SOON, async || {
            let left = daemon.admin.connections().await?;
            when(left.is_empty(), || format!("{left:?}"))
        })
        .await?;
    }
    let mut stream = client.connect().await?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let end = timeout(SOON, stream.read(&mut [0])).await?;
    ensure!(!matches!(end, Ok(1..)), "{end:?}");
    let metric = "limpet_rejected_total{listener=\"blind\",reason=\"tls_handshake\"}";
    until(metric, SOON, async || {
        let count = daemon.admin.metric(metric).await?;
        when(count == 1.0, || count.to_string())
    })
    .await
}
