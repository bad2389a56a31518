//! Proves that ends on the balancer's own host are carried by the kernel like any others.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Client, ask, who};
use lb_tests::daemon::{Config, More};
use lb_tests::lab::{Lab, Offloads};
use lb_tests::namespace::Namespace;
use lb_tests::scene::Scene;

/// What a wary administrator may have set: packets that conntrack cannot place are
/// dropped, and sources are checked strictly.
const WARY: &str = "table inet wary { \
    chain input { type filter hook input priority 0; ct state invalid counter drop; }; \
    chain output { type filter hook output priority 0; ct state invalid counter drop; }; }\n";

/// Every direction of every stream must move this far in each phase, in bytes.
const FURTHER: u64 = 2_000;
const STREAMS: usize = 4;
/// What a target is told that it may send, where a client's loopback would take more.
const MSS: &str = "mss = 1460";

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_target() -> Result<()> {
    let lab = Lab::new()?;
    let targets = [local(8080), SocketAddr::new(lab.front().ip(), 8080)];
    carried(&lab, "auto", (&lab.balancer, lab.front()), &targets).await
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_target_over_ipv6() -> Result<()> {
    let lab = Lab::new()?;
    let targets = [
        "[::1]:8080".parse()?,
        SocketAddr::new(lab.front6().ip(), 8080),
    ];
    carried(&lab, "auto", (&lab.balancer, lab.front6()), &targets).await
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_behind_xdp() -> Result<()> {
    let lab = Lab::with(Offloads::Xdp)?;
    let targets = [local(8080), SocketAddr::new(lab.front().ip(), 8080)];
    carried(&lab, "xdp", (&lab.client, lab.front()), &targets).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients() -> Result<()> {
    let lab = Lab::new()?;
    carried(&lab, "auto", (&lab.balancer, lab.front()), &[lab.target(1)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_loopback_among_the_interfaces_they_are_relayed() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(&lab, "auto")
    };
    let scene = Scene::set(&lab, &config).await?;
    let client = Client::new(&lab.balancer, lab.front());
    let (mut socket, _) = client.web_socket("/ws", None).await?;
    ensure!(who(&mut socket).await? == "target-1");
    let all = scene.daemon.admin.connections().await?;
    let reasons: Vec<_> = all.iter().map(|one| one.reason.as_deref()).collect();
    ensure!(reasons == [Some("local")], "{all:?}");
    Ok(())
}

async fn carried(
    lab: &Lab,
    mode: &'static str,
    (client, front): (&Namespace, SocketAddr),
    targets: &[SocketAddr],
) -> Result<()> {
    lab.balancer
        .feed(Command::new("nft").args(["-f", "-"]), WARY)?;
    lab.balancer.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
    let mut interfaces = lab.interfaces();
    interfaces.push("lo".to_owned());
    let config = Config {
        interfaces,
        targets: targets.to_vec(),
        more: More {
            listener: MSS.to_owned(),
            ..More::default()
        },
        ..Config::new(lab, mode)
    };
    let mut scene = Scene::set(lab, &config).await?;
    for target in targets.iter().filter(|target| **target != lab.target(1)) {
        scene.targets.listen(&lab.balancer, *target, 1)?;
    }
    scene.client = Client::new(client, front);
    let streams = scene.targets.notes.streams.clone();
    for id in 0..STREAMS {
        streams.open(&scene.client, id).await?;
    }
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    scene.settled(STREAMS + 1).await?;
    let before = streams.progress();
    scene.streams_go_on(&before, FURTHER).await?;
    scene.daemon.kill9()?;
    let before = streams.progress();
    scene
        .streams_go_on(&before, FURTHER)
        .await
        .context("without a daemon")?;
    ensure!(who(&mut socket).await? == "target-1");
    scene.daemon.restart().await?;
    scene.settled(STREAMS + 1).await?;
    // FIN of sockets on this host, which the guard must let pass.
    ask(&mut socket, "close 1000 bye").await?;
    drop(socket);
    scene.streams_end().await?;
    scene.all_gone().await
}
